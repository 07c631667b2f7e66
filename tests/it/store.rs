//! Stores that are full, refuse requests, or contain leftovers of a killed process.

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt, process::CommandExt},
};

use crate::{
    lake::{assert_holds, assert_shows},
    process::{Ended, Folder, Running},
    rows::{Row, ndjson, pipeline, rows},
};

const RUN: [&str; 4] = ["run", "p.yaml", "--admin", "off"];

fn with_file(count: i64) -> (Folder, Vec<Row>) {
    let folder = Folder::new();
    let all = rows(count, 3);
    folder.write("in.ndjson", ndjson(&all));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    (folder, all)
}

/// Runs a shell script in the folder, with `tagflow` as `$0` and `argument` as
/// `$1`.
fn shell(folder: &Folder, script: &str, argument: &str) -> Ended {
    let mut command = folder.command("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_tagflow"), argument]);
    Running::of(&mut command).wait()
}

#[track_caller]
fn says(ended: &Ended, parts: &[&str]) {
    for part in parts {
        assert!(
            ended.stderr.contains(part),
            "no `{part}` in\n{}",
            ended.stderr
        );
    }
}

#[test]
fn a_table_that_takes_no_more_bytes_ends_the_run_and_loses_nothing() {
    let (folder, all) = with_file(20_000);
    // No file may be longer than 40 blocks of 512 bytes: enough for a log record and a small table.
    let limited = "trap '' XFSZ; ulimit -f 40; exec \"$0\" run p.yaml --admin off";
    let ended = shell(&folder, limited, "").expect(4);
    let root = folder.path("").display().to_string();
    says(
        &ended,
        &[
            &format!("error: cannot write `file://{root}"),
            ": the store takes no more bytes; make room there\n",
            "  cause: Generic local disk error: File too large (os error 27)\n",
            "  hint: nothing is lost: run it again when this is mended",
        ],
    );
    folder.tagflow(&RUN).expect(0);
    assert_holds(&folder, &all);
}

#[test]
fn a_full_disk_ends_the_run_and_loses_nothing() {
    let (folder, all) = with_file(20_000);
    let text = pipeline("files: {url: ./in.ndjson}");
    let text = text.replace("./lake", "./disk/lake");
    folder.write("p.yaml", text.replace("./state", "./disk/state"));
    let script = "\
        mkdir disk && mount -t tmpfs -o size=4m tmpfs disk || exit 77
        head -c 100m /dev/zero > disk/filler 2> /dev/null
        truncate -s -100k disk/filler
        \"$0\" run p.yaml --admin off; [ $? = 4 ] || exit 1
        rm disk/filler
        \"$0\" run p.yaml --admin off && \"$0\" audit sales --state disk/state --deep && cp -r disk/lake lake";
    let Some(ended) = on_a_disk_of_its_own(&folder, script) else {
        return;
    };
    says(
        &ended.expect(0),
        &[
            ": the store takes no more bytes; make room there\n",
            "  cause: Generic local disk error: No space left on device (os error 28)\n",
        ],
    );
    assert_shows(&folder, &all);
}

#[test]
fn a_disk_that_can_only_be_read_ends_the_run_and_loses_nothing() {
    let (folder, all) = with_file(20_000);
    let text = pipeline("files: {url: ./in.ndjson}").replace("./lake", "./disk/lake");
    folder.write("p.yaml", text.replace("./state", "./disk/state"));
    let script = "\
        mkdir disk && mount -t tmpfs tmpfs disk && mkdir disk/lake disk/state || exit 77
        mount -o remount,ro disk || exit 77
        \"$0\" run p.yaml --admin off; [ $? = 4 ] || exit 1
        mount -o remount,rw disk
        \"$0\" run p.yaml --admin off && \"$0\" audit sales --state disk/state --deep && cp -r disk/lake lake";
    let Some(ended) = on_a_disk_of_its_own(&folder, script) else {
        return;
    };
    says(
        &ended.expect(0),
        &[
            "error: cannot write to `./disk/state`: no file can be created in the folder `",
            "Read-only file system (os error 30)",
            "hint: nothing is lost",
        ],
    );
    assert_shows(&folder, &all);
}

/// Runs a script that mounts a file system, in its own mount namespace; `None` if the machine
/// forbids mounts.
fn on_a_disk_of_its_own(folder: &Folder, script: &str) -> Option<Ended> {
    let unshared = "exec unshare -rm sh -c \"$1\" \"$0\"";
    let ended = shell(folder, unshared, script);
    if ended.stderr.contains("unshare: ") || ended.code == Some(77) {
        eprintln!("NOT RUN: this machine lets nobody mount: {}", ended.stderr);
        return None;
    }
    Some(ended)
}

#[test]
fn a_state_folder_that_may_not_be_written_is_named() {
    let (folder, _) = with_file(10);
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(folder.path("state")).unwrap();
    mode("state", 0o555);
    mode(".", 0o755);
    let mut command = folder.command(env!("CARGO_BIN_EXE_tagflow"));
    command.args(RUN);
    if File::create(folder.path("state/x")).is_ok() {
        // The superuser may write everywhere, so the test uses another user.
        command.uid(65_534).gid(65_534);
        if command.output().is_err() {
            eprintln!("NOT RUN: only the superuser may start the binary");
            return;
        }
    }
    let ended = Running::of(&mut command).wait().expect(4);
    let state = folder.path("state").display().to_string();
    says(
        &ended,
        &[
            &format!(
                "error: cannot write to `./state`: no file can be created in the folder `{state}`\n"
            ),
            "Permission denied (os error 13)",
        ],
    );
}

#[test]
fn what_a_killed_process_left_half_written_goes_and_what_is_being_written_stays() {
    let (folder, all) = with_file(1000);
    let dead = [
        "lake/per_minute/_staging/sales/main/1/0b7e#1",
        "lake/every_row/_staging/sales/main/1/6a31#281474976710656",
        "state/sales/log/main/00000000000000000001.json#42",
        "state/sales/state/main/1/77aa#7",
    ];
    let live = "lake/every_row/_staging/sales/main/2/5c1d#99";
    for name in dead.into_iter().chain([live]) {
        folder.write(name, "half");
    }
    let writer = File::open(folder.path(live)).unwrap();
    writer.lock().unwrap();
    folder.tagflow(&RUN).expect(0);
    assert_eq!(folder.files(".", "#"), [folder.path(live)]);
    drop(writer);
    folder.tagflow(&RUN).expect(0);
    assert_holds(&folder, &all);
}
