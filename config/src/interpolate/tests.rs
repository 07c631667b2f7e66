use super::*;

fn variables() -> Variables {
    Variables {
        env: Arc::new(|name| match name {
            "HOST" => Some("kafka".into()),
            "EMPTY" => Some(String::new()),
            "SNEAKY" => Some("${env:HOST}".into()),
            _ => None,
        }),
        folder: PathBuf::from("/nowhere"),
        params: Params::Known([("n".to_owned(), Some("20".to_owned()))].into()),
    }
}

fn text(leaf: &str) -> String {
    resolve(leaf, &variables()).unwrap().text
}

fn problem(leaf: &str) -> Unresolved {
    resolve(leaf, &variables()).err().unwrap().remove(0)
}

#[test]
fn references_resolve() {
    for (leaf, expected) in [
        ("plain", "plain"),
        ("${env:HOST}:9092", "kafka:9092"),
        ("${env:HOST},${env:HOST}", "kafka,kafka"),
        ("${env:NONE:-./lake}/x", "./lake/x"),
        ("${env:NONE:-}", ""),
        ("${env:EMPTY}", ""),
        ("${env:EMPTY:-x}", "x"),
        ("${env:URL:-s3://a:-b}", "s3://a:-b"),
        ("${params.n}", "20"),
        ("$${env:HOST}", "${env:HOST}"),
        ("a $5 {b} $ {c}", "a $5 {b} $ {c}"),
        ("${env:SNEAKY}", "${env:HOST}"),
    ] {
        assert_eq!(text(leaf), expected, "{leaf}");
    }
}

#[test]
fn regression_nested_references_are_refused() {
    for leaf in [
        "${env:NONE:-${env:HOST}}",
        "x${env:HOST:-${params.n}}y",
        "${file:${env:HOST}}",
        "${params.${env:HOST}}",
    ] {
        let message = problem(leaf).message;
        assert!(
            message.starts_with("a reference cannot stand inside another"),
            "{message}"
        );
    }
}

#[test]
fn every_character_knows_where_it_comes_from() {
    let resolved = resolve("é${params.n}z$${", &variables()).unwrap();
    assert_eq!(resolved.text, "é20z${");
    assert_eq!(resolved.origins, [0, 1, 1, 12, 13, 13]);
    assert!(resolved.has_references);
    assert!(!resolve("$${a}", &variables()).unwrap().has_references);
}

#[test]
fn all_that_is_missing_is_said_where_it_is() {
    let problems = resolve("a ${env:A} ${env:B}", &variables()).err().unwrap();
    let said: Vec<_> = problems.iter().map(|p| (p.index, &*p.message)).collect();
    assert_eq!(
        said,
        [
            (2, "environment variable `A` is not set"),
            (11, "environment variable `B` is not set"),
        ]
    );
}

#[test]
fn mistakes_say_what_to_write() {
    for (leaf, message, help) in [
        ("${env:HOST", "lacks its closing `}`", "$${"),
        ("${HOST}", "unknown reference `${HOST}`", "${env:NAME}"),
        ("${env:NONE}", "`NONE` is not set", "${env:NONE:-default}"),
    ] {
        let problem = problem(leaf);
        assert!(problem.message.contains(message), "{leaf}: {problem:?}");
        assert!(problem.help.unwrap().contains(help), "{leaf}");
    }
    assert_eq!(
        problem("${params.m}").message,
        "unknown param `m` (have: n)"
    );
    assert!(
        problem("${file:none.txt}")
            .message
            .starts_with("cannot read the file `none.txt`: ")
    );
    assert_eq!(problem("${env:}").message, "`${env:}` names no variable");
}

#[test]
fn a_file_is_read_beside_the_pipeline_without_its_last_newline() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("password"), "se cret\n\r\n").unwrap();
    let variables = Variables {
        folder: folder.path().into(),
        ..variables()
    };
    let resolved = resolve("x${file:password}", &variables).unwrap();
    assert_eq!(resolved.text, "xse cret");
    assert_eq!(resolved.file, Some(1));
}

/// A pipe without a writer never answers, and a device may never end.
#[cfg(unix)]
#[test]
fn regression_a_pipe_or_a_device_is_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    fs::write(folder.path().join("large"), "x".repeat((1 << 20) + 1)).unwrap();
    let variables = Variables {
        folder: folder.path().into(),
        ..variables()
    };
    for (path, reason) in [
        ("pipe", "it is not a regular file"),
        ("/dev/zero", "it is not a regular file"),
        (".", "it is not a regular file"),
        ("large", "it is longer than 1MiB"),
    ] {
        let problems = resolve(&format!("${{file:{path}}}"), &variables)
            .err()
            .unwrap();
        let expected = format!("cannot read the file `{path}`: {reason}");
        assert_eq!(problems[0].message, expected);
    }
}

#[test]
fn a_param_cannot_refer_to_a_param() {
    let variables = Variables {
        params: Params::NotYet,
        ..variables()
    };
    let problems = resolve("${params.n}", &variables).err().unwrap();
    assert_eq!(problems[0].message, "a param cannot refer to a param");
}
