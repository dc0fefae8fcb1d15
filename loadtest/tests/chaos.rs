//! `chaos` from outside: faults under load leave the log whole, what must not happen is found, Ctrl-C ends it in order.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_roundtable-loadtest");

fn chaos(arguments: &[&str]) -> Command {
    let beside = Path::new(PROGRAM).with_file_name("roundtable");
    assert!(beside.is_file(), "{} is not there: cargo test --workspace builds it", beside.display());
    let mut command = Command::new(PROGRAM);
    command.args(["chaos", "--rate", "50", "--people", "12", "--rooms", "6"]).args(arguments).stdin(Stdio::null());
    command
}

/// A run with its output, which is ended with its value.
struct Run {
    process: Child,
    said: BufReader<ChildStderr>,
}

impl Run {
    fn start(arguments: &[&str]) -> Self {
        let mut process =
            chaos(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the harness runs");
        let said = BufReader::new(process.stderr.take().expect("its words"));
        Self { process, said }
    }

    /// Listens until a line has `words` in it.
    fn until(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(self.said.read_line(&mut line).expect("a line") > 0, "it never said: {words}");
        }
    }

    /// Exit status, and what it printed as its result and beside it.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut result, mut beside) = (String::new(), String::new());
        self.said.read_to_string(&mut beside).expect("text");
        self.process.stdout.take().expect("its result").read_to_string(&mut result).expect("text");
        (self.process.wait().expect("its status").code(), result, beside)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal(pid: &str, name: &str) {
    assert!(Command::new("kill").args([name, pid]).status().expect("kill runs").success());
}

#[test]
fn faults_under_load_leave_the_log_whole_and_the_run_can_be_repeated() {
    let arguments = ["--seed", "4", "--minutes", "0.2", "--faults", "kill,redis-flushall"];
    let (status, result, beside) = Run::start(&arguments).end();
    assert_eq!(status, Some(0), "{result}{beside}");
    assert!(result.contains("nothing lost, repeated, reordered or invented"), "{result}");
    assert!(beside.contains("kill -9") && beside.contains("FLUSHALL") && beside.contains("healed after"), "{beside}");
    let repeat = "repeat with: roundtable-loadtest chaos --seed 4 --minutes 0.2 --faults kill,redis-flushall --rate 50 \
                  --people 12 --rooms 6\n";
    assert!(result.ends_with(repeat), "{result}");
}

#[test]
fn a_node_that_ends_by_itself_fails_the_run_and_its_log_is_kept() {
    let keep = std::env::temp_dir().join(format!("roundtable-chaos-test-{}", std::process::id()));
    let keep_word = keep.to_str().expect("a plain path");
    let mut run = Run::start(&["--seed", "4", "--minutes", "1", "--faults", "redis-flushall", "--keep", keep_word]);
    run.until("FLUSHALL");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.process.id())).expect("its children");
    let node = children.split_whitespace().find(|pid| {
        fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "roundtable"))
    });
    signal(node.expect("a node"), "-KILL");
    let (status, result, beside) = run.end();
    assert_eq!(status, Some(1), "{result}{beside}");
    assert!(result.contains("FAILED") && result.contains("ended by itself with signal: 9"), "{result}");
    assert!(keep.join("report.json").is_file() && keep.join("node-1.1.log").is_file());
    fs::remove_dir_all(keep).expect("what it kept");
}

#[test]
fn ctrl_c_heals_and_reports_what_there_is() {
    let mut run = Run::start(&["--seed", "9", "--minutes", "5", "--faults", "freeze"]);
    run.until("frozen");
    signal(&run.process.id().to_string(), "-INT");
    let (status, result, beside) = run.end();
    assert_eq!(status, Some(130), "{result}{beside}");
    assert!(result.contains("INTERRUPTED") && result.contains("frozen") && result.contains("repeat with:"), "{result}");
}
