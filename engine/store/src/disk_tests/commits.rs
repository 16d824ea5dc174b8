//! What a commit takes and what it refuses; which files stay, and for how long.

use tidewatch_log::StdFs;

use super::*;

fn refused(result: Result<impl std::fmt::Debug, FolderError>, words: &str) {
    match result {
        Err(FolderError::Unsound(what)) => assert!(what.contains(words), "{what}"),
        other => panic!("{words}: {other:?}"),
    }
}

#[test]
fn a_new_folder_has_no_checkpoint_and_an_old_one_has_its_last() {
    let fs = MemFs::new();
    let (mut folder, none) = open(&fs).unwrap();
    assert_eq!(none, None);
    let (again, none) = open(&fs).unwrap();
    assert_eq!((none, files(&fs)), (None, vec!["MANIFEST".to_owned()]));
    drop(again);
    checkpoint(&mut folder, 1).unwrap();
    let committed = Manifest::clone(&folder.manifest());
    drop(folder);
    let (folder, found) = open(&fs).unwrap();
    assert_eq!(found, Some(committed));
    assert_eq!(check_content(&folder, &fs, "reopened"), 1);
}

#[test]
fn names_are_never_given_twice() {
    let fs = small_store();
    let (mut folder, _) = open(&fs).unwrap();
    let next = folder.manifest().next_file;
    let given = folder.write_blob("state", b"lost").unwrap().name;
    assert_eq!(given, format!("state-{next:020}.blob"));
    drop(folder);
    // The process was killed: its name is found, removed, and still not given again.
    let (mut folder, _) = open(&fs).unwrap();
    assert_eq!(folder.findings().removed, [given.as_str()]);
    assert!(folder.write_blob("state", b"new").unwrap().name > given);
    assert_eq!(folder.write_blob("Käse & Brot!", b"x").unwrap().name, format!("k_se___brot_-{:020}.blob", next + 2));
    assert_eq!(folder.write_blob("", b"x").unwrap().name, format!("_-{:020}.blob", next + 3));
}

#[test]
fn other_files_are_left_alone_and_reported() {
    let fs = small_store();
    let foreign = ["LOCK", "MANIFEST.old", "State-00000000000000000001.blob", "notes.txt", "state-1.blob", "x.parquet"];
    for name in foreign {
        fs.put(&dir().join(name), b"not ours".to_vec());
    }
    fs.put(&dir().join("state-00000000000000009999.blob"), b"ours, but not named".to_vec());
    fs.put(&dir().join("MANIFEST.part"), b"ours".to_vec());
    let (mut folder, _) = open(&fs).unwrap();
    assert_eq!(folder.findings().foreign, foreign);
    assert_eq!(folder.findings().removed, ["MANIFEST.part", "state-00000000000000009999.blob"]);
    assert_eq!(files(&fs).len(), folder.manifest().files().count() + 1 + foreign.len());
    assert!(folder.write_blob("state", b"x").unwrap().name.ends_with("-00000000000000010000.blob"));
}

#[test]
fn files_without_a_manifest_are_damage_and_are_kept() {
    let fs = small_store();
    fs.remove(&dir().join("MANIFEST")).unwrap();
    fs.sync_dir(dir()).unwrap();
    let before = files(&fs);
    let error = open(&fs).unwrap_err();
    assert!(matches!(&error, FolderError::Damaged(damage) if damage.what.contains("manifest is missing")), "{error}");
    assert_eq!(files(&fs), before);
}

#[test]
fn a_file_stays_while_a_reader_holds_its_manifest() {
    let fs = small_store();
    let (mut folder, _) = open(&fs).unwrap();
    let (reader, held) = (folder.files().clone(), folder.manifest());
    (5..=9).for_each(|step| checkpoint(&mut folder, step).unwrap());
    let read = |segments: &[Segment]| {
        let batches: Vec<_> = segments.iter().map(|segment| reader.read_segment(segment).unwrap()).collect();
        numbers(&batches.concat())
    };
    assert_eq!(read(&held.tables["transactions"]), [1, 2, 3, 4]);
    assert_eq!(reader.read_blob(held.state.as_ref().unwrap()).unwrap(), state(4));
    drop(held);
    folder.sweep();
    assert_eq!(check_content(&folder, &fs, "nobody reads"), 9);
}

#[test]
fn what_was_written_and_is_not_named_goes() {
    let fs = small_store();
    let (mut folder, _) = open(&fs).unwrap();
    folder.write_blob("state", b"given up").unwrap();
    folder.discard();
    assert_eq!(check_content(&folder, &fs, "discarded"), 4);
    folder.write_blob("state", b"forgotten").unwrap();
    checkpoint(&mut folder, 5).unwrap();
    assert_eq!(check_content(&folder, &fs, "not named"), 5);
}

#[test]
fn a_checkpoint_that_contradicts_itself_is_refused() {
    let fs = small_store();
    let (mut folder, _) = open(&fs).unwrap();
    let good = Manifest::clone(&folder.manifest());
    type Spoil = fn(&mut Manifest);
    let cases: [(&str, Spoil); 14] = [
        ("go back from record 4 to 3", |m| {
            m.applied = Lsn(3);
            m.views.clear();
            m.tables.clear();
        }),
        ("holds records behind 5", |m| m.tables.get_mut("transactions").unwrap()[1].lsns.1 = Lsn(9)),
        ("already holds", |m| {
            let segment = &mut m.tables.get_mut("transactions").unwrap()[1];
            (segment.lsns.0, segment.minutes.0) = (Lsn(3), minute(3));
        }),
        ("already holds", |m| {
            let segments = &mut m.views.get_mut("payments").unwrap().segments;
            segments[1].minutes.0 = segments[0].minutes.1;
        }),
        ("begins later", |m| m.views.get_mut("payments").unwrap().segments.reverse()),
        ("named twice", |m| {
            let twice = m.tables["transactions"].clone();
            m.tables.insert("other".to_owned(), twice);
        }),
        ("named twice", |m| m.id_runs[0].file = m.state.clone().unwrap()),
        ("not the name of a file", |m| m.state.as_mut().unwrap().name = "../../etc/passwd".to_owned()),
        ("not the name of a file", |m| m.state.as_mut().unwrap().name = "MANIFEST".to_owned()),
        ("not the name of a file", |m| m.state.as_mut().unwrap().name = m.tables["transactions"][0].file.name.clone()),
        ("was not given yet", |m| m.state.as_mut().unwrap().name = "state-00000000000000999999.blob".to_owned()),
        ("is not there", |m| m.state.as_mut().unwrap().name = "state-00000000000000000000.blob".to_owned()),
        ("do not make up", |m| m.tables.get_mut("transactions").unwrap()[0].chunks[1].bytes += 1),
        ("end before they begin", |m| m.id_runs[0].minutes.0 = minute(1_000)),
    ];
    for (words, spoil) in cases {
        let mut manifest = Manifest { applied: Lsn(5), ..good.clone() };
        spoil(&mut manifest);
        refused(folder.commit(manifest), words);
        assert_eq!(check_content(&folder, &fs, words), 4);
    }
    refused(folder.write_segment("x", &[], contents(1, 1)), "has rows");
    refused(folder.write_segment("x", &[rows(&[])], contents(1, 1)), "has rows");
    refused(folder.write_segment("x", &[rows(&[1])], contents(2, 1)), "end before they begin");
    let twice = [good.tables["transactions"][0].clone(), good.tables["transactions"][0].clone()];
    refused(folder.merge("x", &twice, 1, in_turn), "already holds");
}

#[test]
fn the_real_disk_does_the_same() {
    let dir = std::env::temp_dir().join(format!("tidewatch-store-{}", std::process::id()));
    let open = || Folder::open(Arc::new(StdFs), &dir).unwrap();
    let (mut folder, none) = open();
    assert_eq!(none, None);
    (1..=3).for_each(|step| checkpoint(&mut folder, step).unwrap());
    folder.write_blob("state", b"of a checkpoint that was broken off").unwrap();
    drop(folder);
    let (folder, found) = open();
    let found = found.unwrap();
    assert_eq!((found.applied, folder.findings().removed.len()), (Lsn(3), 1));
    let read = |segment: &Segment| numbers(&folder.read_segment(segment).unwrap());
    assert_eq!(found.tables["transactions"].iter().flat_map(read).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(folder.read_blob(found.state.as_ref().unwrap()).unwrap(), state(3));
    assert_eq!(StdFs.list(&dir).unwrap().len(), found.files().count() + 1);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_pinned_manifest_keeps_its_files_and_the_log_after_it() {
    let fs = MemFs::new();
    let (mut folder, _) = open(&fs).unwrap();
    let pins = folder.pins().clone();
    assert_eq!(pins.log_from(), Lsn(1));
    checkpoint(&mut folder, 1).unwrap();
    let (first, same) = (pins.pin(), pins.pin());
    for step in 2..=5 {
        checkpoint(&mut folder, step).unwrap();
    }
    let second = pins.pin();
    checkpoint(&mut folder, 6).unwrap();
    let there = |manifest: &Manifest| manifest.files().all(|(file, _)| files(&fs).contains(&file.name));
    assert!(there(&first) && there(&second));
    assert_eq!(pins.log_from(), Lsn(2));
    drop(first);
    assert_eq!(pins.log_from(), Lsn(2), "one of two is not the last");
    drop(same);
    assert_eq!(pins.log_from(), Lsn(6));
    drop(second);
    assert_eq!(pins.log_from(), Lsn(7));
    // Nobody needs them any more, and a folder that was swept has no other file.
    checkpoint(&mut folder, 7).unwrap();
    assert_eq!(check_content(&folder, &fs, "after the pins"), 7);
}
