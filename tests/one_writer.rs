//! One process at a time uses a data folder: every command that opens one is told who does, by its process id and address.

use std::{path::Path, process::Command};

use tidewatch_log::DataFolderLock;

use crate::support::{Folder, Setup, output, tidewatch};

/// The commands that open a data folder for themselves.
fn commands(data: &Path, target: &str) -> Vec<(&'static str, Command)> {
    let command = |name: &'static str, arguments: &[&str]| {
        let mut command = tidewatch([name].iter().chain(arguments));
        command.arg("--data-dir").arg(data).current_dir(data.parent().unwrap());
        (name, command)
    };
    let anywhere = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
    let demo = ["--for", "1s", "--history", "1m", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
    vec![command("serve", &anywhere), command("demo", &demo), command("restore", &["--from", target])]
}

async fn refused(commands: Vec<(&'static str, Command)>, words: &str) {
    for (name, command) in commands {
        let ended = output(command).await;
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(words), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_told_of_the_first() {
    let (setup, kept) = (Setup::new(), Folder::new());
    let target = kept.path().join("backups").display().to_string();
    let engine = setup.start().await;
    let back_up = || {
        let mut command = tidewatch(["backup", "--to", &target, "--data-dir"]);
        command.arg(setup.data());
        command
    };
    // This one is done by the first process, instead of against it.
    let made = output(back_up()).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let words = format!(
        "the data folder {} is in use by process {} (serving at {}): stop that process, or use another folder",
        setup.data().display(),
        engine.pid(),
        engine.http
    );
    refused(commands(&setup.data(), &target), &words).await;
    assert!(engine.terminate().await.success());
    // One that serves nothing cannot be asked for a backup, either.
    let lock = DataFolderLock::acquire(&setup.data()).unwrap();
    let words = format!("is in use by process {}: stop that process", std::process::id());
    let mut all = commands(&setup.data(), &target);
    all.push(("backup", back_up()));
    refused(all, &words).await;
    drop(lock);
    let made = output(back_up()).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
