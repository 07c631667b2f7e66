//! A canary in every possible place of a secret: it must appear in no output.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    broker::Broker,
    process::{Ended, Folder, Running, eventually},
};

/// The prefix of each secret, before its place.
const CANARY: &str = "canary7f3a";

/// Variables with secrets: those of the pipeline, and those that clients read themselves.
const VARIABLES: [&str; 8] = [
    "KAFKA_PASSWORD",
    "KAFKA_USER",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "SETTING",
];

fn pipeline(brokers: &str, protocol: &str) -> String {
    format!(
        r#"name: secretive
params: {{shop: none, limit: 5}}
sources:
  events:
    kafka:
      brokers: "{brokers}"
      topics: [clicks]
      group_id: "${{env:SETTING}}"
      properties:
        security.protocol: {protocol}
        sasl.mechanism: PLAIN
        sasl.username: "${{env:KAFKA_USER}}"
        sasl.password: "${{env:KAFKA_PASSWORD}}"
        ssl.key.password: "${{file:./secret}}"
        ssl.keystore.password: {CANARY}-literal
        client.rack: "${{params.shop}}"
    format: {{json: {{}}}}
    columns: {{user_id: string, note: string, at: timestamp(ms)}}
    time: {{event_time: at, delay: 1s}}
queries:
  minute: |
    SELECT tumble(at, INTERVAL '1 minute') AS w, note, count(*) AS n FROM events GROUP BY 1, 2
sinks:
  out: {{from: events, parquet: {{url: ./lake/out, files: {{compression: none, max_open: 0s}}}}}}
  per_minute: {{from: minute, parquet: {{url: ./lake/minute, files: {{compression: none}}}}}}
checkpoint: {{every: 100ms, url: ./state}}
"#
    )
}

/// All output and stored files, to be searched.
#[derive(Default)]
struct Heard(Vec<(String, Vec<u8>)>);

impl Heard {
    fn ended(&mut self, what: &str, ended: &Ended) {
        let said = format!("{}{}", ended.stdout, ended.stderr);
        self.0.push((what.to_owned(), said.into_bytes()));
    }

    /// Runs a command with the most verbose logs.
    fn run(&mut self, folder: &Folder, args: &[&str]) -> Ended {
        let ended = start(folder, args).wait();
        self.ended(&args.join(" "), &ended);
        ended
    }

    /// All files that Tagflow wrote.
    fn files(&mut self, folder: &Folder) {
        for place in ["lake", "state"] {
            for path in folder.files(place, "") {
                self.0.push((
                    path.display().to_string(),
                    path.display().to_string().into_bytes(),
                ));
                self.0
                    .push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }

    /// The places that contain `text`.
    fn places_of(&self, text: &str) -> Vec<&str> {
        let has = |bytes: &[u8]| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        let found = self.0.iter().filter(|(_, bytes)| has(bytes));
        found.map(|(place, _)| place.as_str()).collect()
    }

    #[track_caller]
    fn assert_no_canary(&self) {
        for (place, bytes) in &self.0 {
            let text = String::from_utf8_lossy(bytes);
            let line = text.lines().find(|line| line.contains(CANARY));
            assert_eq!(line, None, "in {place}");
        }
    }
}

fn start(folder: &Folder, args: &[&str]) -> Running {
    let mut command = folder.command(env!("CARGO_BIN_EXE_tagflow"));
    Running::of(secretive(command.args(args)))
}

fn secretive(command: &mut Command) -> &mut Command {
    for variable in VARIABLES {
        command.env(variable, format!("{CANARY}-{variable}"));
    }
    command
        .env("RUST_LOG", "trace")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
}

/// A run that fails to start, for a moment.
fn refused(heard: &mut Heard, folder: &Folder, args: &[&str]) {
    let mut run = start(folder, args);
    assert!(run.outlives(Duration::from_secs(3)), "it keeps trying");
    run.signal("KILL");
    let ended = run.wait();
    assert!(!ended.stderr.is_empty());
    heard.ended(&args.join(" "), &ended);
}

fn get(address: &str, path: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    answer
}

fn send(broker: &Broker, rows: std::ops::Range<i64>) {
    let row = |n: i64| {
        let at = 1_767_571_200_000 + n * 1000;
        let user = if n % 7 == 0 { "7" } else { "\"u1\"" };
        format!(
            "{{\"user_id\":{user},\"note\":\"visible-{}\",\"at\":{at}}}",
            n % 3
        )
    };
    broker.send("clicks", rows.map(|n| (0, Some(row(n).into_bytes()))));
}

#[test]
fn a_canary_comes_out_nowhere() {
    let folder = Folder::new();
    let broker = Broker::new("clicks", 1);
    let mut heard = Heard::default();
    folder.write("secret", format!("{CANARY}-file\n"));
    folder.write("p.yaml", pipeline(&broker.address(), "plaintext"));
    folder.write("locked.yaml", pipeline(&broker.address(), "sasl_plaintext"));
    let set = ["--set", "shop=visible-set"];
    let with = |args: &[&'static str]| [args, &set].concat();

    // Commands that read only the file.
    for args in [
        &["validate", "p.yaml"][..],
        &["validate", "p.yaml", "--format", "json"],
        &["explain", "p.yaml"],
        &["explain", "p.yaml", "--dot"],
        &["explain", "p.yaml", "--sizes"],
        &["test", "p.yaml"],
    ] {
        heard.run(&folder, &with(args)).expect(0);
    }

    // A run that is queried and killed, one that is stopped, and one that fails.
    send(&broker, 0..100);
    let run = with(&["run", "p.yaml", "-vv", "--admin", "127.0.0.1:0"]);
    let live = start(&folder, &run);
    let address = eventually("it commits", || {
        let status = folder.tagflow(&["status", "--state", "state", "--json"]);
        let status: Value = serde_json::from_str(&status.stdout).ok()?;
        (status[0]["totals"]["in"] == 100)
            .then(|| status[0]["owner"]["admin"].as_str().unwrap().to_owned())
    });
    for path in ["/healthz", "/readyz", "/metrics", "/status", "/nothing"] {
        heard.0.push((path.to_owned(), get(&address, path)));
    }
    heard
        .run(&folder, &["status", "--state", "state"])
        .expect(0);
    live.signal("KILL");
    let killed = live.wait();
    heard.ended("run, killed", &killed);
    send(&broker, 100..200);
    heard
        .run(
            &folder,
            &with(&["run", "p.yaml", "-vv", "--once", "--admin", "off"]),
        )
        .expect(0);
    refused(
        &mut heard,
        &folder,
        &with(&["run", "locked.yaml", "--admin", "off"]),
    );
    folder.write(
        "x.yaml",
        pipeline(&broker.address(), "plaintext")
            .replace("sasl.mechanism: PLAIN", "sasl.mechanism: NONE"),
    );
    heard.run(
        &folder,
        &with(&["run", "x.yaml", "--once", "--admin", "off"]),
    );

    // Commands that read the results.
    for args in [
        &["status", "--state", "state", "--json"][..],
        &["audit", "secretive", "--state", "state", "--deep", "--json"],
        &[
            "query",
            "select reason, error, arrow_cast(payload, 'Utf8') as p from dead_letters",
            "--state",
            "state",
        ],
        &["query", "select * from per_minute", "--state", "state"],
    ] {
        heard.run(&folder, args).expect(0);
    }
    heard.run(&folder, &with(&["diff", "p.yaml"])).expect(0);

    // Mistakes: a secret in a wrong place.
    for (good, bad) in [
        ("every: 100ms", "every: \"${env:KAFKA_PASSWORD}\""),
        ("delay: 1s", "delay: \"${file:./secret}\""),
        (
            "url: ./lake/out",
            "url: \"s3://key:${env:KAFKA_PASSWORD}@bucket/x\"",
        ),
        ("url: ./lake/out", "url: \"ftp://${env:KAFKA_PASSWORD}/x\""),
        ("topics: [clicks]", "topics: [\"${env:KAFKA_PASSWORD} \"]"),
        ("count(*) AS n", "count(*) AS n, '${file:./secret}' AS x"),
        (
            "sasl.mechanism: PLAIN",
            "enable.auto.commit: \"${env:KAFKA_PASSWORD}\"",
        ),
        (
            "sasl.mechanism: PLAIN",
            "socket.timeout.ms: \"${env:KAFKA_PASSWORD}\"",
        ),
    ] {
        let text = pipeline(&broker.address(), "plaintext");
        assert!(text.contains(good), "{good}");
        folder.write("bad.yaml", text.replace(good, bad));
        heard
            .run(&folder, &with(&["validate", "bad.yaml"]))
            .expect(2);
        heard
            .run(
                &folder,
                &with(&["run", "bad.yaml", "--once", "--admin", "off"]),
            )
            .expect(2);
    }
    let property = format!("sasl.password={CANARY}-property");
    folder.write("rows.ndjson", "{}\n");
    for protocol in ["security.protocol=plaintext", "security.protocol=nothing"] {
        let produce = [
            "produce",
            "rows.ndjson",
            "--topic",
            "none",
            "--brokers",
            "127.0.0.1:1",
            "--property",
            "message.timeout.ms=500",
        ];
        heard.run(
            &folder,
            &[
                &produce[..],
                &["--property", &property, "--property", protocol],
            ]
            .concat(),
        );
    }
    let url = format!("s3://key:{CANARY}-url@bucket/x");
    for args in [
        &["status", "--state", url.as_str()][..],
        &["audit", "secretive", "--state", url.as_str()],
        &[
            "query",
            "select 1 from dead_letters",
            "--state",
            url.as_str(),
        ],
        &["query", &format!("select * from '{url}/*.parquet'")],
    ] {
        let ended = start(&folder, args).wait().expect(2);
        // The command line may repeat its arguments; no log may.
        assert!(!ended.stderr.contains(CANARY), "{args:?}: {}", ended.stderr);
    }
    // A store that refuses its keys.
    let text = pipeline(&broker.address(), "plaintext").replace("./state", "s3://bucket/state");
    folder.write("s3.yaml", text);
    refused(
        &mut heard,
        &folder,
        &with(&["run", "s3.yaml", "--admin", "off"]),
    );

    heard.files(&folder);
    // Public text is found, in plans, records, state and Parquet.
    for (visible, place) in [
        ("visible-1", "lake/out"),
        ("visible-1", "lake/minute"),
        ("KAFKA_PASSWORD", "/plan/"),
        ("clicks/0", "/log/"),
        ("dead_letter", "/metrics"),
    ] {
        let found = heard.places_of(visible);
        assert!(
            found.iter().any(|found| found.contains(place)),
            "{visible}: {found:?}"
        );
    }
    heard.assert_no_canary();
}
