//! Values that name Hive folders, from the rows of a file to the answers of readers.

use std::process::Command;

use crate::process::Folder;

const PIPELINE: &str = r"name: folders
sources:
  events:
    files: {url: ./in.ndjson}
    format: {json: {}}
    columns: {i: int64, c: string?, n: int64?, d: date?, at: timestamp(ms)}
    time: {event_time: at}
sinks:
  by_text: {from: events, parquet: {url: ./lake/text, partition_by: {c: c}}}
  by_all: {from: events, parquet: {url: ./lake/all, partition_by: {n: n, d: d, t: c}}}
";

const AT: i64 = 1_767_571_200_000;

/// A pipeline that has written rows of these texts, each with its number, and the first
/// with a number and a day.
fn written(texts: &[Option<&str>]) -> Folder {
    let folder = Folder::new();
    let rows = texts.iter().enumerate().map(|(i, text)| {
        let mut row = serde_json::json!({"i": i, "c": text, "at": AT});
        if i == 0 {
            row["n"] = 7.into();
            row["d"] = "2026-01-05".into();
        }
        format!("{row}\n")
    });
    folder.write("in.ndjson", rows.collect::<String>());
    folder.write("p.yaml", PIPELINE);
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    folder
}

fn answer(folder: &Folder, sql: &str) -> String {
    let args = ["query", sql, "--file", "p.yaml", "--format", "csv"];
    folder.tagflow(&args).expect(0).stdout
}

#[test]
fn regression_null_empty_and_long_values_are_read_as_they_were() {
    let long = format!("春{}", "x/".repeat(150));
    let default = "__HIVE_DEFAULT_PARTITION__";
    let texts = [
        Some("email"),
        None,
        Some(""),
        Some("NULL"),
        Some("a/b~c"),
        Some(&long),
        Some(default),
    ];
    let folder = written(&texts);

    let nulls = "select i, t is null as no_c, n is null as no_n, d is null as no_d \
                 from by_all order by i";
    let expected = "i,no_c,no_n,no_d\n0,false,false,false\n1,true,true,true\n\
                    2,false,true,true\n3,false,true,true\n4,false,true,true\n\
                    5,false,true,true\n6,false,true,true\n";
    assert_eq!(answer(&folder, nulls), expected);
    for table in ["by_text", "by_all"] {
        let column = if table == "by_text" { "c" } else { "t" };
        let places = texts.iter().enumerate();
        for (i, text) in places.filter_map(|(i, text)| Some((i, (*text)?))) {
            let sql = format!("select i from {table} where {column} = '{text}'");
            assert_eq!(
                answer(&folder, &sql),
                format!("i\n{i}\n"),
                "{table}: {text}"
            );
        }
    }
    let typed = "select sum(n) as n, max(d) as d from by_all";
    assert_eq!(answer(&folder, typed), "n,d\n7,2026-01-05\n");
    let by_place = "select count(*) as n from './lake/text' where c is null";
    assert_eq!(answer(&folder, by_place), "n\n1\n");
    folder
        .tagflow(&["audit", "--file", "p.yaml", "--deep"])
        .expect(0);
    read_by_duckdb(&folder);
}

/// `DuckDB` reads the same folders. It shows a shortened name as it is, and versions
/// before 1.5 show null as a text.
fn read_by_duckdb(folder: &Folder) {
    let named = std::env::var("TAGFLOW_DUCKDB").ok();
    let python = named.as_deref().unwrap_or("python3");
    let script = "import duckdb
for row in duckdb.sql(\"\"\"
    select i, nullif(c, '__HIVE_DEFAULT_PARTITION__') as c
    from read_parquet('lake/text/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)
    where i < 5 order by i\"\"\").fetchall():
    print(row)";
    let mut command: Command = folder.command(python);
    let output = command.args(["-c", script]).output();
    let answered = output.as_ref().is_ok_and(|it| it.status.success());
    if !answered {
        assert!(named.is_none(), "DuckDB does not answer: {output:?}");
        eprintln!("NOT RUN: DuckDB reads Hive folders; `pip install duckdb`");
        return;
    }
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    let expected = "(0, 'email')\n(1, None)\n(2, '')\n(3, 'NULL')\n(4, 'a/b~c')\n";
    assert_eq!(said, expected);
}
