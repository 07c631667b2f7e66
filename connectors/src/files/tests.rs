use std::{path::Path, sync::Arc};

use arrow::{
    array::{AsArray, Int64Array, StringArray},
    datatypes::TimestampMicrosecondType,
    record_batch::RecordBatch,
};
use futures::FutureExt;
use proptest::prelude::*;
use tagflow_engine::{
    Error, ErrorKind, EventTime, SystemClock,
    source::{Decoder, Offset, Rows, SourceEvent},
    testing::VirtualClock,
};
use tagflow_schemas::{Column, ColumnType};

use super::*;
use crate::{
    format::{CsvFormat, CsvOptions, JsonFormat, JsonOptions},
    testing::{Transcript, check_resume, read_all},
};

/// CSV with a header.
const CSV: FileFormat = FileFormat::Csv(CsvRecords {
    header: true,
    delimiter: b',',
    quote: b'"',
});

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
    // The files are long unchanged.
    let clock = VirtualClock::starting_at(EventTime::from_micros(4_000_000_000_000_000));
    FilesSource::new(config, Arc::new(clock)).unwrap()
}

/// The rows of all files in the order of their names.
fn rows(transcript: &Transcript) -> Vec<(Offset, &str)> {
    let rows = transcript.rows.values().flatten();
    rows.map(|(offset, text)| (*offset, text.as_str()))
        .collect()
}

/// Reads until the first error.
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
async fn regression_a_pattern_that_matches_nothing_is_an_error() {
    let folder = folder(&[("a", b"one\n")]);
    let config = config(folder.path(), "*.json", FileFormat::Lines);
    let error = failure(&source(config.clone()), &Positions::new()).await;
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("/*.json`"), "{error}");
    let source = source(FilesConfig {
        allow_empty: Some(true.into()),
        ..config
    });
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
    assert_eq!(whole.assigned, [(Arc::from(url.as_str()), 0)]);
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
        ..config(folder.path(), "*.csv", CSV)
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
async fn regression_int96_times_after_2262_do_not_wrap_around() {
    use ::parquet::{
        data_type::{Int96, Int96Type},
        file::writer::SerializedFileWriter,
        schema::parser::parse_message_type,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spark.parquet");
    let schema = parse_message_type("message rows { required int96 t; }").unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).unwrap();
    // Midnight of the Julian days of 1600-01-01, 1970-01-01 and 9999-12-31, and 1.5 s.
    let days = [2_305_448_u32, 2_440_588, 5_373_484];
    let nanos = 1_500_000_000_u32;
    let times: Vec<Int96> = days
        .iter()
        .map(|day| Int96::from(vec![nanos, 0, *day]))
        .collect();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int96Type>()
        .write_batch(&times, None, None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    let mut reader = source(config(folder.path(), "*.parquet", FileFormat::Parquet))
        .open(&Positions::new())
        .await
        .unwrap();
    let read = loop {
        if let SourceEvent::Chunk(chunk) = reader.next().await.unwrap() {
            let Rows::Columns(rows) = chunk.rows else {
                panic!("rows of Parquet are columns");
            };
            break rows.records;
        }
    };
    let times = read.column(0).as_primitive::<TimestampMicrosecondType>();
    let seconds = [-11_676_096_000_i64, 0, 253_402_214_400];
    let micros = seconds.map(|it| it * 1_000_000 + 1_500_000);
    assert_eq!(times.values(), &micros);
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
    while !matches!(reader.next().await.unwrap(), SourceEvent::Assigned(_)) {}
    reader.pause(&name);
    for _ in 0..100 {
        assert!(reader.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    reader.resume(&name);
    while !matches!(reader.next().await.unwrap(), SourceEvent::Chunk(_)) {}
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

/// Parses the rows of a text naively, with their offsets.
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

/// A block, a sample and a file can end between a carriage return and its line feed.
#[tokio::test]
async fn regression_a_carriage_return_at_the_end_of_a_block_is_no_line_end() {
    let long = format!("{}\r\nb\r\n", "a".repeat((64 << 10) - 1));
    let expected = [(0, &long[..(64 << 10) - 1]), ((64 << 10) + 1, "b")];
    for (text, expected) in [
        ("\r\n", &[][..]),
        ("\r\na\r\n", &[(2, "a")]),
        ("a\r\nb", &[(0, "a"), (3, "b")]),
        ("a\rb\r", &[(0, "a"), (2, "b")]),
        (&long, &expected),
    ] {
        let folder = folder(&[("a", text.as_bytes())]);
        for block_bytes in [1, 2, 64 << 10, 1 << 20] {
            let source = source(FilesConfig {
                block_bytes,
                max_row_bytes: 1 << 17,
                ..config(folder.path(), "a", FileFormat::Lines)
            });
            let whole = read_all(&source, &Positions::new(), 1).await;
            assert_eq!(rows(&whole), expected, "{block_bytes}");
        }
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
    let config = config(folder.path(), "*.csv", CSV);
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

#[tokio::test]
async fn regression_a_byte_order_mark_is_no_part_of_a_row() {
    let json = "\u{feff}{\"a\":1}\n{\"a\":2}\n";
    let csv = "\u{feff}a,b\n1,2\n";
    let folder = folder(&[("a.json", json.as_bytes()), ("b.csv", csv.as_bytes())]);
    for block_bytes in [4, 9, 1 << 20] {
        for (name, format, expected) in [
            (
                "a.json",
                FileFormat::Lines,
                &[(3, "{\"a\":1}"), (11, "{\"a\":2}")][..],
            ),
            ("b.csv", CSV, &[(7, "1,2")]),
        ] {
            let source = source(FilesConfig {
                block_bytes,
                ..config(folder.path(), name, format)
            });
            let whole = read_all(&source, &Positions::new(), 1).await;
            assert_eq!(rows(&whole), expected, "{block_bytes}");
            check_resume(&source, &whole).await;
        }
    }
}

#[tokio::test]
async fn regression_lone_carriage_returns_end_lines() {
    let folder = folder(&[("a.csv", b"id,n\ru1,1\r\ru2,2\r"), ("b.json", b"{}\r[1]")]);
    for block_bytes in [3, 8, 1 << 20] {
        for (name, format, expected) in [
            ("a.csv", CSV, &[(5, "u1,1"), (11, "u2,2")][..]),
            ("b.json", FileFormat::Lines, &[(0, "{}"), (3, "[1]")]),
        ] {
            let source = source(FilesConfig {
                block_bytes,
                ..config(folder.path(), name, format)
            });
            let whole = read_all(&source, &Positions::new(), 1).await;
            // A block may be too small to show the end of a line.
            if block_bytes > 3 {
                assert_eq!(rows(&whole), expected, "{name} {block_bytes}");
                check_resume(&source, &whole).await;
            }
        }
    }
}

#[tokio::test]
async fn regression_a_line_break_between_quotes_makes_no_row() {
    let text = "id,\"no\nte\"\r\nu1,\"first\nu9,forged\n\"\"last\"\"\"\r\n\r\nu2,5\" pipe\nu3,\"a\"b\nu4,\"\n\"";
    let folder = folder(&[("a.csv", text.as_bytes())]);
    for block_bytes in [1, 5, 13, 30, 1 << 20] {
        let source = source(FilesConfig {
            block_bytes,
            ..config(folder.path(), "a.csv", CSV)
        });
        let whole = read_all(&source, &Positions::new(), 1).await;
        let texts: Vec<_> = rows(&whole).iter().map(|(_, text)| *text).collect();
        assert_eq!(
            texts,
            [
                "u1,\"first\nu9,forged\n\"\"last\"\"\"",
                "u2,5\" pipe",
                "u3,\"a\"b",
                "u4,\"\n\""
            ],
            "{block_bytes}"
        );
        check_resume(&source, &whole).await;
    }
}

/// An unclosed quote costs only its own line, at the end of a file and in a large one. A value that
/// is too large costs its row.
#[tokio::test]
async fn regression_a_quote_that_is_not_closed_costs_one_line() {
    let long = "x".repeat(300);
    for (text, block_bytes, expected) in [
        (
            "a,b\n1,\"open\n2,c\n3,d\n".to_owned(),
            1 << 20,
            vec!["1,\"open".to_owned(), "2,c".to_owned(), "3,d".to_owned()],
        ),
        (
            format!("a,b\n1,\"open\n{}", "2,c\n".repeat(1_000)),
            16,
            std::iter::once("1,\"open".to_owned())
                .chain(std::iter::repeat_n("2,c".to_owned(), 1_000))
                .collect(),
        ),
        (
            format!("a,b\n1,\"{long}\n\"\n2,c\n"),
            16,
            vec![format!("1,\"{}", "x".repeat(98)), "2,c".to_owned()],
        ),
    ] {
        let folder = folder(&[("a.csv", text.as_bytes())]);
        let source = source(FilesConfig {
            block_bytes,
            max_row_bytes: 100,
            ..config(folder.path(), "a.csv", CSV)
        });
        let whole = read_all(&source, &Positions::new(), 1).await;
        let texts: Vec<_> = rows(&whole).iter().map(|(_, text)| *text).collect();
        assert_eq!(texts, expected);
        check_resume(&source, &whole).await;
    }
}

/// Parses rows of separated values character by character.
fn csv_model(text: &str) -> Vec<String> {
    let (mut rows, mut row) = (Vec::new(), String::new());
    let (mut quoted, mut value_begins) = (false, true);
    for it in text.chars() {
        match it {
            '"' if quoted || value_begins => {
                quoted = !quoted;
                row.push(it);
                // A quote directly after another one reopens the value: together they are one
                // quote.
                value_begins = !quoted && row.ends_with('"');
                continue;
            }
            '\n' if !quoted => rows.push(std::mem::take(&mut row)),
            it => row.push(it),
        }
        value_begins = !quoted && matches!(it, ',' | '\n');
    }
    rows.push(row);
    rows.retain(|row| !row.is_empty());
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_between_quotes_equal_a_naive_reading(
        text in "((\"([a,\n]|\"\"){0,4}\"|[ab]{0,2})(,|\n)){0,9}",
        block_bytes in 1_usize..40,
    ) {
        let folder = folder(&[("a", text.as_bytes())]);
        let csv = FileFormat::Csv(CsvRecords { header: false, delimiter: b',', quote: b'"' });
        let source = source(FilesConfig { block_bytes, ..config(folder.path(), "a", csv) });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let whole = runtime.block_on(read_all(&source, &Positions::new(), 1));
        let texts: Vec<_> = rows(&whole).iter().map(|(_, text)| (*text).to_owned()).collect();
        prop_assert_eq!(texts, csv_model(&text));
    }
}

/// The unfinished last line of a growing file is left for the next run.
#[tokio::test]
async fn regression_half_a_last_line_waits_for_its_rest() {
    let folder = folder(&[("a.json", b"{\"a\":1}\n{\"a\":{\"b\":2}")]);
    let json = config(folder.path(), "a.json", FileFormat::Lines);
    let json = FilesSource::new(json, Arc::new(SystemClock)).unwrap();
    let first = read_all(&json, &Positions::new(), 1).await;
    assert_eq!(rows(&first), [(0, "{\"a\":1}")]);

    std::fs::write(folder.path().join("a.json"), "{\"a\":1}\n{\"a\":{\"b\":2}}").unwrap();
    let second = read_all(&json, &first.ends, 1).await;
    assert_eq!(rows(&second), [(8, "{\"a\":{\"b\":2}}")]);

    // The write of the next line also ends the last one.
    std::fs::write(
        folder.path().join("a.json"),
        "{\"a\":1}\n{\"a\":{\"b\":2}}\r\n{}",
    )
    .unwrap();
    let third = read_all(&json, &second.ends, 1).await;
    assert_eq!(rows(&third), [(23, "{}")]);
}

#[tokio::test]
async fn regression_a_file_that_is_there_is_no_pattern() {
    let folder = folder(&[
        ("ev[1].json", b"{}\n"),
        ("ev1.json", b"[]\n"),
        ("w?.json", b"1\n"),
    ]);
    for (name, expected) in [
        ("ev[1].json", "{}"),
        ("w?.json", "1"),
        ("ev[0-9].json", "[]"),
    ] {
        let source = source(config(folder.path(), name, FileFormat::Lines));
        let whole = read_all(&source, &Positions::new(), 1).await;
        assert_eq!(rows(&whole), [(0, expected)], "{name}");
    }
}

/// Unusual names are read. A name that is no text, a pipe and a folder are skipped.
#[cfg(unix)]
#[tokio::test]
async fn regression_one_bad_name_costs_no_other_file() {
    use std::os::unix::ffi::OsStrExt;

    let folder = folder(&[]);
    let odd = [
        "a b",
        "100%",
        "ü",
        "x#1x",
        "q?",
        "[1]",
        "{z}",
        "quo\"te",
        "back\\slash",
        "~t",
        "a%2Fb",
        "a:b",
        "日本",
        "x*",
        "a|b",
        "^",
        "`",
        " lead",
        "e\u{301}",
    ];
    for name in odd {
        std::fs::write(folder.path().join(name), "{}\n").unwrap();
    }
    for name in [&b"\xff\xfe"[..], b"y#12", b"new\nline", b"tab\t"] {
        let name = std::ffi::OsStr::from_bytes(name);
        std::fs::write(folder.path().join(name), "{}\n").unwrap();
    }
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("folder/loop")).unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(folder.path().join("pipe"))
        .status();
    assert!(pipe.unwrap().success());
    for pattern in ["*", "**"] {
        let source = source(config(folder.path(), pattern, FileFormat::Lines));
        let whole = read_all(&source, &Positions::new(), odd.len()).await;
        assert_eq!(rows(&whole).len(), odd.len(), "{pattern}");
        let again = read_all(&source, &whole.ends, 0).await;
        assert_eq!(rows(&again), []);
    }
}

/// The same files are the same partitions, however their URL is spelt.
#[tokio::test]
async fn regression_another_spelling_of_a_url_reads_no_row_again() {
    let folder = folder(&[("a b", b"1\n2\n"), ("c%20d", b"3\n")]);
    let path = folder.path().display();
    let within = folder.path().file_name().unwrap().to_string_lossy();
    let spellings = [
        format!("{path}/*"),
        format!("file://{path}/*"),
        format!("{path}/./*"),
        format!("{path}/../{within}/*"),
    ];
    for first in &spellings {
        let config = FilesConfig::new(first, FileFormat::Lines);
        let read = read_all(&source(config), &Positions::new(), 2).await;
        assert_eq!(rows(&read).len(), 3);
        for second in &spellings {
            let config = FilesConfig::new(second, FileFormat::Lines);
            let again = read_all(&source(config), &read.ends, 0).await;
            assert_eq!(rows(&again), [], "{first} and then {second}");
        }
    }
    // Inside a file, too, reading continues under the earlier name.
    let known: Arc<str> = format!("{path}/a b").into();
    let positions = Positions::from([(Arc::clone(&known), 2)]);
    let config = FilesConfig::new(&spellings[1], FileFormat::Lines);
    let whole = read_all(&source(config), &positions, 2).await;
    assert_eq!(whole.rows[&known], [(2, "2".to_owned())]);
}
