use std::{path::Path, sync::Arc};

use arrow::{
    array::{Int64Array, StringArray},
    record_batch::RecordBatch,
};
use futures::FutureExt;
use proptest::prelude::*;
use tagflow_engine::{
    Error, ErrorKind, SystemClock,
    source::{Decoder, Offset, SourceEvent},
};
use tagflow_schemas::{Column, ColumnType};

use super::*;
use crate::{
    format::{CsvFormat, CsvOptions, JsonFormat, JsonOptions},
    testing::{Transcript, check_resume, read_all},
};

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn config(folder: &Path, pattern: &str, format: FileFormat) -> FilesConfig {
    FilesConfig::new(format!("{}/{pattern}", folder.display()), format)
}

fn source(config: FilesConfig) -> FilesSource {
    FilesSource::new(config, Arc::new(SystemClock)).unwrap()
}

/// The rows of all files in the order of their names.
fn rows(transcript: &Transcript) -> Vec<(Offset, &str)> {
    let rows = transcript.rows.values().flatten();
    rows.map(|(offset, text)| (*offset, text.as_str()))
        .collect()
}

/// Reads until something goes wrong.
async fn failure(source: &FilesSource, positions: &Positions) -> Error {
    let mut reader = match source.open(positions).await {
        Ok(reader) => reader,
        Err(error) => return error,
    };
    for _ in 0..100 {
        if let Err(error) = reader.next().await {
            return error;
        }
    }
    panic!("nothing went wrong");
}

fn at(folder: &Path, name: &str, position: Offset) -> Positions {
    Positions::from([(Arc::from(format!("{}/{name}", folder.display())), position)])
}

#[tokio::test]
async fn lines_are_rows_and_offsets_are_bytes() {
    let folder = folder(&[
        ("a.json", b"one\ntwo\r\n\n\r\nthree\n\n"),
        ("b.json", b"four\nfive"),
    ]);
    for block_bytes in [1, 2, 3, 5, 8, 1 << 20] {
        let source = source(FilesConfig {
            block_bytes,
            ..config(folder.path(), "*.json", FileFormat::Lines)
        });
        let whole = read_all(&source, &Positions::new(), 2).await;
        assert_eq!(
            rows(&whole),
            [
                (0, "one"),
                (4, "two"),
                (12, "three"),
                (0, "four"),
                (5, "five")
            ],
            "{block_bytes}"
        );
        let names: Vec<_> = whole
            .assigned
            .iter()
            .map(|(name, _)| Path::new(&**name))
            .collect();
        assert_eq!(
            names,
            [folder.path().join("a.json"), folder.path().join("b.json")]
        );
    }
}

#[tokio::test]
async fn reading_goes_on_at_any_line() {
    let folder = folder(&[
        ("a", b"one\ntwo\n\nthree\n"),
        ("b", b""),
        ("c", b"four\nfive"),
    ]);
    for block_bytes in [3, 1 << 20] {
        let config = config(folder.path(), "*", FileFormat::Lines);
        let source = source(FilesConfig {
            block_bytes,
            ..config
        });
        let whole = read_all(&source, &Positions::new(), 3).await;
        check_resume(&source, &whole).await;
    }
}

#[tokio::test]
async fn nothing_to_read_is_said() {
    let folder = folder(&[("a", b"one\n")]);
    let source = source(config(folder.path(), "*.json", FileFormat::Lines));
    assert!(
        read_all(&source, &Positions::new(), 0)
            .await
            .assigned
            .is_empty()
    );
}

#[tokio::test]
async fn one_file_is_named_as_it_is_written() {
    let folder = folder(&[("a.json", b"one\n")]);
    let config = config(folder.path(), "a.json", FileFormat::Lines);
    let url = config.url.clone();
    let whole = read_all(&source(config), &Positions::new(), 1).await;
    assert_eq!(whole.assigned, [(Arc::from(url), 0)]);
}

#[tokio::test]
async fn a_row_that_is_too_large_is_cut_and_costs_itself() {
    let giant = "x".repeat(5_000);
    let text = format!(
        "{{}}\n{giant}\n{{}}\n{{\"long\": \"{}\"}}\n{giant}",
        "y".repeat(30)
    );
    let folder = folder(&[("a", text.as_bytes())]);
    let source = source(FilesConfig {
        block_bytes: 16,
        max_row_bytes: 100,
        ..config(folder.path(), "a", FileFormat::Lines)
    });
    let whole = read_all(&source, &Positions::new(), 1).await;
    let lengths: Vec<_> = rows(&whole).iter().map(|(_, text)| text.len()).collect();
    assert_eq!(lengths, [2, 101, 2, 42, 101]);
    assert_eq!(whole.ends.values().next(), Some(&(text.len() as i64)));
    check_resume(&source, &whole).await;

    let mut reader = source.open(&Positions::new()).await.unwrap();
    let mut format = JsonFormat::new(
        Vec::new(),
        JsonOptions {
            max_row_bytes: 100,
            ..JsonOptions::default()
        },
    );
    let mut rejected = Vec::new();
    loop {
        match reader.next().await.unwrap() {
            SourceEvent::Chunk(chunk) => {
                rejected.extend(format.decode(&chunk.rows).unwrap().rejected);
            }
            SourceEvent::Finished(_) => break,
            _ => {}
        }
    }
    let reasons: Vec<_> = rejected.iter().map(|it| it.reason).collect();
    assert_eq!(reasons, ["too_large", "too_large"]);
}

#[tokio::test]
async fn a_header_goes_with_every_chunk() {
    let folder = folder(&[
        ("a.csv", b"b,a\r\nx,1\r\ny,2\r\n"),
        ("b.csv", b"a,b\n3,z"),
        ("c.csv", b"a,b\n"),
    ]);
    let source = source(FilesConfig {
        block_bytes: 6,
        ..config(folder.path(), "*.csv", FileFormat::LinesAfterHeader)
    });
    let whole = read_all(&source, &Positions::new(), 3).await;
    assert_eq!(rows(&whole), [(5, "x,1"), (10, "y,2"), (4, "3,z")]);
    check_resume(&source, &whole).await;

    // From the middle of the first file, each chunk can still be decoded.
    let column = |name: &str| Column {
        name: name.to_owned(),
        kind: ColumnType::String,
        nullable: false,
    };
    let mut format = CsvFormat::new(vec![column("a"), column("b")], CsvOptions::default());
    let mut reader = source.open(&at(folder.path(), "a.csv", 10)).await.unwrap();
    let mut cells = Vec::new();
    while cells.len() < 2 {
        if let SourceEvent::Chunk(chunk) = reader.next().await.unwrap() {
            let decoded = format.decode(&chunk.rows).unwrap();
            assert_eq!(decoded.rejected, []);
            cells.push(format!("{:?}", decoded.records.columns()).replace(char::is_whitespace, ""));
        }
    }
    assert!(
        cells[0].contains("\"2\"") && cells[0].contains("\"y\""),
        "{cells:?}"
    );
    assert!(
        cells[1].contains("\"3\"") && cells[1].contains("\"z\""),
        "{cells:?}"
    );
}

fn write_parquet(path: &Path, rows: std::ops::Range<i64>) {
    let names: Vec<_> = rows.clone().map(|row| format!("n{row}")).collect();
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(rows)) as _),
        ("name", Arc::new(StringArray::from(names)) as _),
    ])
    .unwrap();
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(7))
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn parquet_rows_are_numbered() {
    let folder = folder(&[]);
    write_parquet(&folder.path().join("a.parquet"), 0..17);
    write_parquet(&folder.path().join("b.parquet"), 20..23);
    let config = FilesConfig {
        batch_rows: 5,
        columns: Some(vec!["name".to_owned()]),
        ..config(folder.path(), "*.parquet", FileFormat::Parquet)
    };
    let source = source(config);
    let whole = read_all(&source, &Positions::new(), 2).await;
    let rows = rows(&whole);
    assert_eq!(rows.len(), 20);
    assert_eq!(
        (rows[0], rows[16], rows[17]),
        ((0, "n0"), (16, "n16"), (0, "n20"))
    );
    check_resume(&source, &whole).await;

    let error = failure(&source, &at(folder.path(), "b.parquet", 4)).await;
    assert!(
        error
            .to_string()
            .contains("has been read up to row 4, and now it has only 3")
    );
}

#[tokio::test]
async fn files_that_changed_are_errors_that_name_them() {
    let folder = folder(&[
        ("a", b"one\ntwo\n"),
        ("bad.parquet", b"PAR1 no parquet at all PAR1"),
    ]);
    let lines = source(config(folder.path(), "a", FileFormat::Lines));
    let bad = source(config(folder.path(), "bad.parquet", FileFormat::Parquet));
    for (source, positions, part) in [
        (
            &lines,
            at(folder.path(), "a", 100),
            "a` has been read up to byte 100, and now it has only 8",
        ),
        (&lines, at(folder.path(), "a", 2), "no line begins there"),
        (&bad, Positions::new(), "bad.parquet` is not sound Parquet"),
    ] {
        let error = failure(source, &positions).await;
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains(part), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_an_error() {
    let text = "a line\n".repeat(1_000);
    let folder = folder(&[("a", text.as_bytes())]);
    let source = source(FilesConfig {
        block_bytes: 70,
        ..config(folder.path(), "a", FileFormat::Lines)
    });
    let mut reader = source.open(&Positions::new()).await.unwrap();
    reader.next().await.unwrap();
    std::fs::write(folder.path().join("a"), "other\n".repeat(2_000)).unwrap();
    let error = loop {
        if let Err(error) = reader.next().await {
            break error;
        }
    };
    assert!(
        error.to_string().contains("changed while it was read"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn a_paused_file_waits() {
    let folder = folder(&[("a", b"one\ntwo\n")]);
    let config = config(folder.path(), "a", FileFormat::Lines);
    let name = config.url.clone();
    let mut reader = source(config).open(&Positions::new()).await.unwrap();
    reader.next().await.unwrap();
    reader.pause(&name);
    assert!(reader.next().now_or_never().is_none());
    reader.resume(&name);
    assert!(matches!(
        reader.next().await.unwrap(),
        SourceEvent::Chunk(_)
    ));
}

#[test]
fn wrong_settings_are_refused() {
    let config = FilesConfig {
        block_bytes: 0,
        ..FilesConfig::new("x", FileFormat::Lines)
    };
    let error = FilesSource::new(config, Arc::new(SystemClock))
        .err()
        .unwrap();
    assert!(error.to_string().contains("`block_bytes` is 0"), "{error}");
}

/// The rows of a text by a naive reading, with their offsets.
fn model(text: &str) -> Vec<(Offset, &str)> {
    let mut at = 0;
    let mut rows = Vec::new();
    for line in text.split('\n') {
        let row = line.strip_suffix('\r').unwrap_or(line);
        if !row.is_empty() {
            rows.push((at as Offset, row));
        }
        at += line.len() + 1;
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn blocks_do_not_show(text in "([a-z]{0,9}\r?\n){0,12}[a-z]{0,9}", block_bytes in 1_usize..40) {
        let folder = folder(&[("a", text.as_bytes())]);
        let source = source(FilesConfig {
            block_bytes,
            max_row_bytes: 12,
            ..config(folder.path(), "a", FileFormat::Lines)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let whole = runtime.block_on(read_all(&source, &Positions::new(), 1));
        prop_assert_eq!(rows(&whole), model(&text));
    }
}

#[tokio::test]
async fn a_table_is_read_again_only_when_a_file_has_changed() {
    let folder = folder(&[("a.csv", b"id\n1\n2\n"), ("b.csv", b"id\n3\n")]);
    let columns = vec![Column {
        name: "id".into(),
        kind: ColumnType::Int64,
        nullable: false,
    }];
    let schema = Column::schema(&columns);
    let decoder = move || -> tagflow_engine::Result<Box<dyn Decoder>> {
        Ok(Box::new(CsvFormat::new(
            columns.clone(),
            CsvOptions::default(),
        )))
    };
    let config = config(folder.path(), "*.csv", FileFormat::LinesAfterHeader);
    let table = TableFiles::new(config, schema, Arc::new(decoder)).unwrap();

    let (version, rows) = table.read(None).await.unwrap().unwrap();
    assert_eq!(rows.num_rows(), 3);
    assert!(table.read(Some(&version)).await.unwrap().is_none());

    std::fs::write(folder.path().join("b.csv"), "id\n3\n4\n").unwrap();
    let (version, rows) = table.read(Some(&version)).await.unwrap().unwrap();
    assert_eq!(rows.num_rows(), 4);

    std::fs::write(folder.path().join("c.csv"), "id\nx\n").unwrap();
    let error = table.read(Some(&version)).await.unwrap_err();
    assert!(error.to_string().contains("c.csv"), "{error}");
}
