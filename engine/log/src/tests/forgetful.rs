//! The layer that forgets does what the disk in memory does in a crash, in whatever order things are done.

use super::*;
use crate::fs::{Fate, ForgetfulFs, WriteFile};

fn listing(fs: &dyn FileSystem) -> Vec<(String, Vec<u8>)> {
    let names = fs.list(dir()).unwrap();
    names.into_iter().map(|name| (name.clone(), fs.read(&dir().join(name), 1 << 20).unwrap())).collect()
}

#[test]
fn a_killed_process_leaves_what_a_crashed_machine_leaves() {
    let mut rng = rng();
    for round in 0..300 {
        // One disk that crashes as a machine does, and one of which only the process above it dies.
        let (machine, below) = (MemFs::new(), MemFs::new());
        machine.create_dir(dir()).unwrap();
        for life in 0..4 {
            let process = ForgetfulFs::over(Arc::new(below.clone()));
            process.create_dir(dir()).unwrap();
            assert_eq!(listing(&process), listing(&machine), "round {round}, life {life}");
            both(&machine, &process, &mut rng);
            assert_eq!(listing(&process), listing(&machine), "round {round}, life {life}: while alive");
            machine.crash_with(|_, _| Fate::Kept(0));
        }
    }
}

/// The same operations on both; each must answer alike.
fn both(machine: &MemFs, process: &ForgetfulFs, rng: &mut StdRng) {
    let mut files: Vec<(Box<dyn WriteFile>, Box<dyn WriteFile>)> = Vec::new();
    for _ in 0..rng.random_range(1..30) {
        let path = |rng: &mut StdRng| dir().join(["a", "b", "c"][rng.random_range(0..3)]);
        match rng.random_range(0..8) {
            0 => {
                let path = path(rng);
                let made = (machine.create(&path), process.create(&path));
                assert_eq!(made.0.is_ok(), made.1.is_ok());
                files.extend(made.0.ok().zip(made.1.ok()));
            }
            1 => {
                let path = path(rng);
                let opened = (machine.append(&path), process.append(&path));
                assert_eq!(opened.0.is_ok(), opened.1.is_ok());
                files.extend(opened.0.ok().zip(opened.1.ok()));
            }
            2 => {
                let (from, to) = (path(rng), path(rng));
                if from != to {
                    assert_eq!(machine.rename(&from, &to).is_ok(), process.rename(&from, &to).is_ok());
                }
            }
            3 => {
                let path = path(rng);
                assert_eq!(machine.remove(&path).is_ok(), process.remove(&path).is_ok());
            }
            4 => {
                machine.sync_dir(dir()).unwrap();
                process.sync_dir(dir()).unwrap();
            }
            step => {
                let Some((one, other)) = files.last_mut() else { continue };
                match step {
                    5 => {
                        let bytes = vec![rng.random(); rng.random_range(1..20)];
                        one.write_all(&bytes).unwrap();
                        other.write_all(&bytes).unwrap();
                    }
                    6 => {
                        let length = rng.random_range(0..20);
                        one.truncate(length).unwrap();
                        other.truncate(length).unwrap();
                    }
                    _ => {
                        one.sync_data().unwrap();
                        other.sync_data().unwrap();
                    }
                }
            }
        }
    }
}
