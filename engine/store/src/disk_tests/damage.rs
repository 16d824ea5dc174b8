//! Damage: every bit of every kind of file flipped in turn, lengths, missing files, newer versions, hostile manifests.

use super::*;
use crate::{
    Affected, Damage, FileEntry,
    manifest::{HEADER_BYTES, ManifestFault},
};

fn damage(result: Result<impl std::fmt::Debug, FolderError>, case: &str) -> Damage {
    match result {
        Err(FolderError::Damaged(damage)) => damage,
        other => panic!("{case}: {other:?}"),
    }
}

/// Every single bit flipped in turn, then every shorter length, then one byte more.
fn spoilt(bytes: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let flips = (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (format!("byte {} bit {}", bit / 8, bit % 8), flipped)
    });
    let cuts = (0..bytes.len()).map(|length| (format!("cut at {length}"), bytes[..length].to_vec()));
    let longer = std::iter::once(("one byte more".to_owned(), [bytes, &[0]].concat()));
    flips.chain(cuts).chain(longer)
}

#[test]
fn every_flipped_bit_of_a_manifest_is_noticed_and_nothing_is_removed() {
    let fs = small_store();
    let path = dir().join("MANIFEST");
    fs.put(&dir().join("state-00000000000000000999.blob"), b"of ours, not named".to_vec());
    let (bytes, names) = (fs.bytes(&path).unwrap(), files(&fs));
    for (case, spoilt) in spoilt(&bytes) {
        fs.put(&path, spoilt);
        let damage = damage(open(&fs), &case);
        assert_eq!((damage.file.as_path(), files(&fs)), (path.as_path(), names.clone()), "{case}");
    }
    fs.put(&path, bytes);
    assert_eq!(check_content(&open(&fs).unwrap().0, &fs, "whole again"), 4);
}

#[test]
fn every_flipped_bit_of_a_blob_is_noticed() {
    let fs = small_store();
    let (folder, _) = open(&fs).unwrap();
    let manifest = folder.manifest();
    for entry in manifest.state.iter().chain(manifest.id_runs.iter().map(|run| &run.file)) {
        let path = dir().join(&entry.name);
        let bytes = fs.bytes(&path).unwrap();
        for (case, spoilt) in spoilt(&bytes) {
            fs.put(&path, spoilt);
            assert_eq!(damage(folder.read_blob(entry), &case).file, path, "{case}");
        }
        fs.put(&path, bytes.clone());
        assert_eq!(folder.read_blob(entry).unwrap(), bytes);
    }
}

#[test]
fn every_flipped_bit_of_a_segment_is_noticed_and_its_place_is_told() {
    let fs = small_store();
    let (folder, _) = open(&fs).unwrap();
    let manifest = folder.manifest();
    let segment = &manifest.tables["transactions"][0];
    let path = dir().join(&segment.file.name);
    let bytes = fs.bytes(&path).unwrap();
    for (case, spoilt) in spoilt(&bytes) {
        fs.put(&path, spoilt);
        let damage = damage(folder.read_segment(segment), &case);
        assert_eq!(damage.file, path, "{case}");
        assert_eq!(damage.affected, Some(Affected { rows: 3, minutes: (minute(1), minute(3)) }), "{case}");
    }
    let columns = ["column `status`", "column `minute`", "column `transactions`", "the footer"];
    assert_eq!(segment.chunks.len(), columns.len());
    for (chunk, name) in segment.chunks.iter().zip(columns) {
        let mut flipped = bytes.clone();
        flipped[chunk.offset as usize + 1] ^= 4;
        fs.put(&path, flipped);
        let error = damage(folder.read_segment(segment), name).to_string();
        assert!(error.contains(name) && error.contains("3 rows of the minutes 2023-03-28T"), "{error}");
    }
    // What was not asked for is not read: one bad column does not take the others with it.
    let mut flipped = bytes.clone();
    flipped[segment.chunks[0].offset as usize] ^= 1;
    fs.put(&path, flipped);
    assert_eq!(numbers(&folder.files().read_columns(segment, &["transactions"]).unwrap()), [1, 2, 3]);
    damage(folder.files().read_columns(segment, &["status"]), "the bad column");
}

#[test]
fn missing_and_cut_files_are_reported_on_opening_and_the_rest_is_served() {
    let fs = small_store();
    let manifest = open(&fs).unwrap().0.manifest();
    let [lost, cut] = &manifest.tables["transactions"][..] else { panic!("the store has two segments of the table") };
    let path = dir().join(&cut.file.name);
    fs.put(&path, fs.bytes(&path).unwrap()[..9].to_vec());
    fs.remove(&dir().join(&lost.file.name)).unwrap();
    let (folder, _) = open(&fs).unwrap();
    let found: Vec<String> = folder.findings().damaged.iter().map(Damage::to_string).collect();
    assert!(found[0].contains("missing; 3 rows of the minutes"), "{found:?}");
    assert!(found[1].contains("it has 9 bytes where the manifest says"), "{found:?}");
    assert_eq!(found.len(), 2);
    damage(folder.read_segment(lost), "lost");
    for segment in &manifest.views["payments"].segments {
        folder.read_segment(segment).unwrap();
    }
}

/// A manifest's file with this body, as if it had been written so.
fn sealed(version: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"TIDEMANI".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(crc32c::crc32c(body).to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    [bytes, body.to_vec()].concat()
}

#[test]
fn a_newer_version_is_refused_and_not_misread() {
    let fs = small_store();
    let path = dir().join("MANIFEST");
    let names = files(&fs);
    for bytes in [sealed(3, b"{}"), sealed(3, b"")[..16].to_vec(), sealed(u32::MAX, b"of another world")] {
        fs.put(&path, bytes);
        let error = open(&fs).unwrap_err();
        assert!(matches!(&error, FolderError::Newer { known: 2, .. }), "{error}");
        assert!(error.to_string().contains("newer Tidewatch"), "{error}");
        assert_eq!(files(&fs), names);
    }
}

#[test]
fn a_manifest_with_right_checksums_and_wrong_contents_is_damage() {
    let fs = small_store();
    let path = dir().join("MANIFEST");
    let bytes = fs.bytes(&path).unwrap();
    let body = String::from_utf8(bytes[HEADER_BYTES..].to_vec()).unwrap();
    assert_eq!(sealed(2, body.as_bytes()), bytes, "the layout is the one that FORMAT.md draws");
    let cases = [
        ("{\"log_id\":", "{\"later\":1,\"log_id\":", "unknown field"),
        ("\"applied\":4", "\"applied\":-4", "invalid value"),
        ("\"applied\":4", "\"applied\":3", "holds records behind 3"),
        ("\"rows\":3", "\"rows\":0", "has rows"),
        ("\"rows\":3", "\"rows\":99999999999", "more than a segment may have"),
        ("\"state\":{", "\"state\":{{", "key must be a string"),
        ("\"next_file\":", "\"next_file\":0,\"next_file\":", "duplicate field"),
        ("state-0", "../te-0", "not the name of a file"),
        ("\"level\":1", "\"level\":256", "invalid value"),
    ];
    for (from, to, words) in cases {
        assert!(body.contains(from), "{from}");
        fs.put(&path, sealed(2, body.replacen(from, to, 1).as_bytes()));
        let damage = damage(open(&fs), to);
        assert!(damage.what.contains(words), "{to}: {}", damage.what);
    }
    for body in ["", "{}", "null", "[]", "\u{0}", &"[".repeat(100_000)] {
        fs.put(&path, sealed(2, body.as_bytes()));
        damage(open(&fs), body);
    }
    let claims = FileEntry { name: "state-00000000000000000000.blob".to_owned(), bytes: u64::MAX, crc32c: 0 };
    let manifest = Manifest { state: Some(claims), next_file: 1, ..Manifest::default() };
    fs.put(&path, manifest.encode().unwrap());
    let (folder, _) = open(&fs).unwrap();
    damage(folder.read_blob(manifest.state.as_ref().unwrap()), "a length that claims all memory");
    assert!(
        matches!(Manifest::decode(&sealed(0, b"{}")), Err(ManifestFault::Damaged(what)) if what.contains("never was"))
    );
}
