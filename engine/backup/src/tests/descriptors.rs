//! A descriptor is understood as it was written, or refused.

use super::*;
use crate::{
    Formats, Object,
    descriptor::{self, DescriptorFault},
};

fn object(path: &str) -> Object {
    Object { path: path.to_owned(), bytes: 1, crc32c: 2 }
}

fn small() -> Descriptor {
    Descriptor {
        id: descriptor::id(at(0).at, LOG_ID, Lsn(20)),
        made_at: at(0).at,
        engine: "0.1.0".to_owned(),
        formats: Formats { log: 1, manifest: 1 },
        log_id: LOG_ID,
        applied: Lsn(10),
        last: Lsn(20),
        objects: ["id.key", "log/00000000000000000001.log", "store/MANIFEST"].map(object).to_vec(),
    }
}

/// A descriptor of another version whose checksums are right.
fn of_version(version: u32) -> Vec<u8> {
    let bytes = small().encode().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (line, body) = text.split_once('\n').unwrap();
    let (covered, _) = line.rsplit_once(' ').unwrap();
    let covered = covered.replacen("TIDEBACK 1", &format!("TIDEBACK {version}"), 1);
    format!("{covered} {:08x}\n{body}", crc32c::crc32c(covered.as_bytes())).into_bytes()
}

#[test]
fn a_descriptor_is_read_as_it_was_written() {
    assert_eq!(Descriptor::decode(&small().encode().unwrap()), Ok(small()));
    assert_eq!(small().id, "20250712T120000.000000Z-0000000000000007-00000000000000000020");
    assert_eq!(descriptor::log_id_of(&small().id), Some(LOG_ID));
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let whole = small().encode().unwrap();
    for at in 0..whole.len() {
        assert!(matches!(Descriptor::decode(&whole[..at]), Err(DescriptorFault::Damaged(_))), "cut at {at}");
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let decoded = Descriptor::decode(&flipped);
            assert!(matches!(decoded, Err(DescriptorFault::Damaged(_))), "bit {bit} of byte {at}: {decoded:?}");
        }
    }
}

#[test]
fn what_is_no_file_of_a_data_folder_is_not_named() {
    for path in [
        "../id.key",
        "/etc/passwd",
        "LOCK",
        "RESTORING",
        "log/../x.log",
        "log/1.log",
        "store/MANIFEST.part",
        "store/a/b",
        "store/../MANIFEST",
        "",
    ] {
        let mut descriptor = small();
        descriptor.objects.push(object(path));
        let refused = descriptor.encode().unwrap_err();
        assert!(refused.contains("is no file of a data folder"), "{path}: {refused}");
    }
    for missing in ["log/00000000000000000001.log", "store/MANIFEST"] {
        let mut descriptor = small();
        descriptor.objects.retain(|object| object.path != missing);
        assert!(descriptor.encode().is_err(), "{missing}");
    }
    let mut twice = small();
    twice.objects.push(object("id.key"));
    assert!(twice.encode().unwrap_err().contains("twice"));
}

#[tokio::test]
async fn a_newer_backup_is_refused_in_a_sentence() {
    let site = Site::new();
    let target = site.target();
    let (descriptor, _) = site.back_up(&target, 0).await.unwrap();
    let path = site.target_folder().join(format!("backups/{}.backup", descriptor.id));
    std::fs::write(&path, of_version(2)).unwrap();
    let error = target.descriptor(&descriptor.id).await.unwrap_err().to_string();
    let expected = "newer Tidewatch (format 2; this one reads up to 1): upgrade tidewatch";
    assert!(error.contains(&descriptor.id) && error.contains(expected), "{error}");
    assert_eq!(
        Descriptor::decode(&of_version(0)),
        Err(DescriptorFault::Damaged("there never was a version 0 of the descriptor".to_owned()))
    );
    // What it holds may be newer than itself.
    let known = descriptor.formats;
    for (formats, known) in [
        (Formats { log: known.log + 1, ..known }, known.log),
        (Formats { manifest: known.manifest + 1, ..known }, known.manifest),
    ] {
        let folder = site.root.path().join("again");
        let newer = Descriptor { formats, ..descriptor.clone() };
        let error = restored(&target, &newer, &folder).await.unwrap_err().to_string();
        let words = format!("(format {}; this one reads up to {known}): upgrade tidewatch", known + 1);
        assert!(error.contains(&words), "{error}");
        assert_eq!(files(&folder).len(), 0);
    }
}
