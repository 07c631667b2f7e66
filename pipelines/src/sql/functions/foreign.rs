//! Functions of other SQL dialects, and their replacements.
//!
//! The names are of `DuckDB`, `PostgreSQL`, `MySQL`, Flink, Spark, Snowflake, `BigQuery` and
//! `ClickHouse`, in lower case. In a replacement, `a` and `b` are integers, `f` is a float,
//! `x` and `y` are texts, `t` and `u` are times, and `l` is a list.

/// Names, and the equivalent expression over one row.
type Entry = (&'static [&'static str], &'static str);

/// The replacement of the function `name` of another dialect.
pub(crate) fn written_here(name: &str) -> Option<&'static str> {
    let entries = || SCALARS.iter().chain(AGGREGATES);
    let of_name = |name: &str| {
        let mut entries = entries();
        entries.find(|(names, _)| names.contains(&name))
    };
    of_name(name).map(|(_, sql)| *sql)
}

/// The names of all functions with a replacement in [`written_here`].
pub(crate) fn names() -> impl Iterator<Item = &'static str> + Clone {
    let entries = SCALARS.iter().chain(AGGREGATES);
    entries.flat_map(|(names, _)| names.iter().copied())
}

/// Expressions over one row.
const SCALARS: &[Entry] = &[
    // Numbers.
    (&["fmod", "mod", "modulo"], "a % b"),
    (&["pmod", "positivemodulo"], "((a % b) + b) % b"),
    (&["div", "intdiv", "divide"], "a / b"),
    (&["safe_divide", "intdivorzero"], "a / nullif(b, 0)"),
    (&["ceiling"], "ceil(f)"),
    (&["sign"], "signum(f)"),
    (&["truncate"], "trunc(f)"),
    (&["rint"], "round(f)"),
    (&["log1p"], "ln(1 + f)"),
    (&["square"], "f * f"),
    (&["bitand", "bitwise_and"], "a & b"),
    (&["bitor", "bitwise_or"], "a | b"),
    (&["bitxor", "bitwise_xor"], "a ^ b"),
    (&["bitshiftleft", "shiftleft"], "a << b"),
    (&["bitshiftright", "shiftright"], "a >> b"),
    // Conditions and nulls.
    (&["if", "iff", "iif"], "CASE WHEN a > b THEN a ELSE b END"),
    (&["isnull"], "x IS NULL"),
    (&["isnotnull", "notnull"], "x IS NOT NULL"),
    (&["equal_null"], "x IS NOT DISTINCT FROM y"),
    (&["zeroifnull"], "coalesce(a, 0)"),
    (&["nullifzero"], "nullif(a, 0)"),
    // Types.
    (&["string", "to_string", "tostring"], "CAST(a AS text)"),
    (
        &["int", "int64", "toint32", "toint64", "to_number"],
        "CAST(x AS bigint)",
    ),
    (&["to_double", "tofloat64"], "CAST(x AS double)"),
    (
        &["to_decimal", "todecimal64", "todecimal128"],
        "CAST(x AS decimal(18, 2))",
    ),
    (&["pg_typeof", "totypename", "typeof"], "arrow_typeof(x)"),
    // Texts.
    (&["len", "lengthutf8"], "length(x)"),
    (&["lcase", "lowerutf8", "tolower"], "lower(x)"),
    (&["ucase", "upperutf8", "toupper"], "upper(x)"),
    (&["mid", "substringutf8"], "substr(x, 1, 3)"),
    (&["charindex", "indexof", "locate"], "strpos(x, y)"),
    (&["positioncaseinsensitive"], "strpos(lower(x), lower(y))"),
    (&["prefix", "startswith"], "starts_with(x, y)"),
    (&["endswith", "suffix"], "ends_with(x, y)"),
    (&["space"], "repeat(' ', a)"),
    (&["char"], "chr(a)"),
    (&["ord", "unicode"], "ascii(x)"),
    (&["edit_distance", "editdistance"], "levenshtein(x, y)"),
    (
        &["regexp_extract", "regexp_substr"],
        "regexp_match(x, 'a(b+)')[1]",
    ),
    (
        &["match", "regexp_contains", "regexp_matches", "rlike"],
        "regexp_like(x, 'ab+')",
    ),
    (&["regexp_full_match"], "regexp_like(x, '^ab+$')"),
    (&["replaceregexpall"], "regexp_replace(x, 'a+', 'b', 'g')"),
    (&["replaceall"], "replace(x, 'a', 'b')"),
    (
        &["split", "splitbychar", "splitbystring", "str_split"],
        "string_to_array(x, ',')",
    ),
    (&["split_index"], "split_part(x, ',', 1)"),
    (
        &["domain", "netloc", "parse_url", "url_extract_host"],
        "regexp_match(x, '://([^/?#]+)')[1]",
    ),
    (
        &["extracturlparameter", "url_extract_parameter"],
        "regexp_match(x, '[?&]utm_source=([^&#]*)')[1]",
    ),
    // The text of a field of a `json` column.
    (
        &[
            "get_json_object",
            "json_extract",
            "json_extract_path_text",
            "json_extract_scalar",
            "json_extract_string",
            "json_value",
            "jsonextractstring",
        ],
        "regexp_match(x, '\"name\": *\"([^\"]*)\"')[1]",
    ),
    (&["hex"], "to_hex(a)"),
    (&["unhex"], "decode(x, 'hex')"),
    (
        &["base64", "base64encode", "to_base64"],
        "encode(x, 'base64')",
    ),
    (
        &["base64decode", "from_base64", "unbase64"],
        "decode(x, 'base64')",
    ),
    // Parts of times.
    (&["toyear", "year"], "extract(year FROM t)"),
    (&["quarter", "toquarter"], "extract(quarter FROM t)"),
    (&["month", "tomonth"], "extract(month FROM t)"),
    (&["toisoweek", "week", "weekofyear"], "extract(week FROM t)"),
    (
        &["day", "day_of_month", "dayofmonth", "todayofmonth"],
        "extract(day FROM t)",
    ),
    (
        &["day_of_week", "dayofweek", "todayofweek", "weekday"],
        "extract(dow FROM t)",
    ),
    (
        &["day_of_year", "dayofyear", "todayofyear"],
        "extract(doy FROM t)",
    ),
    (&["hour", "tohour"], "extract(hour FROM t)"),
    (&["minute", "tominute"], "extract(minute FROM t)"),
    (&["second", "tosecond"], "extract(second FROM t)"),
    (&["dayname"], "to_char(t, '%A')"),
    (&["monthname"], "to_char(t, '%B')"),
    (&["epoch"], "extract(epoch FROM t)"),
    (
        &["epoch_ms", "tounixtimestamp64milli", "unix_millis"],
        "CAST(extract(epoch FROM t) * 1000 AS bigint)",
    ),
    (
        &["tounixtimestamp", "unix_seconds", "unix_timestamp"],
        "to_unixtime(t)",
    ),
    // Times from others.
    (&["todate"], "date(t)"),
    (
        &[
            "parse_datetime",
            "parse_timestamp",
            "parsedatetime",
            "str_to_date",
            "strptime",
        ],
        "to_timestamp(x, '%Y-%m-%d %H:%M:%S')",
    ),
    (
        &["to_datetime", "todatetime", "todatetime64"],
        "to_timestamp(x)",
    ),
    (
        &[
            "format_date",
            "format_timestamp",
            "formatdatetime",
            "strftime",
        ],
        "to_char(t, '%Y-%m-%d')",
    ),
    (&["timestamp_seconds"], "to_timestamp_seconds(a)"),
    (
        &[
            "fromunixtimestamp64milli",
            "make_timestamp_ms",
            "timestamp_millis",
        ],
        "to_timestamp_millis(a)",
    ),
    (
        &["make_timestamp", "timestamp_micros"],
        "to_timestamp_micros(a)",
    ),
    (
        &[
            "convert_timezone",
            "convert_tz",
            "from_utc_timestamp",
            "totimezone",
        ],
        "t AT TIME ZONE 'Asia/Shanghai'",
    ),
    (
        &["datetime_trunc", "timestamp_trunc", "tostartofhour"],
        "date_trunc('hour', t)",
    ),
    (&["tostartofminute"], "date_trunc('minute', t)"),
    (&["tostartofday"], "date_trunc('day', t)"),
    (&["tomonday", "tostartofweek"], "date_trunc('week', t)"),
    (&["tostartofmonth"], "date_trunc('month', t)"),
    (&["tostartofyear"], "date_trunc('year', t)"),
    (
        &[
            "time_bucket",
            "time_slice",
            "tostartoffiveminutes",
            "tostartofinterval",
        ],
        "date_bin(INTERVAL '5 minutes', t)",
    ),
    (
        &["last_day"],
        "date_trunc('month', t) + INTERVAL '1 month' - INTERVAL '1 day'",
    ),
    (
        &[
            "age",
            "date_diff",
            "datediff",
            "timestamp_diff",
            "timestampdiff",
        ],
        "extract(epoch FROM t - u)",
    ),
    (
        &[
            "adddays",
            "date_add",
            "dateadd",
            "timestamp_add",
            "timestampadd",
        ],
        "t + INTERVAL '1 day'",
    ),
    (
        &["date_sub", "datesub", "timestamp_sub"],
        "t - INTERVAL '1 day'",
    ),
    // Lists.
    (&["array_size", "size"], "cardinality(l)"),
    (&["has"], "array_has(l, a)"),
    (&["hasall"], "array_has_all(l, l)"),
    (&["hasany"], "array_has_any(l, l)"),
    (&["sort_array"], "array_sort(l)"),
    (&["struct_pack"], "named_struct('name', a)"),
];

/// Expressions over the rows of a window.
const AGGREGATES: &[Entry] = &[
    (&["count_if", "countif"], "count(*) FILTER (WHERE a > b)"),
    (&["sum_if", "sumif"], "sum(a) FILTER (WHERE a > b)"),
    (&["avg_if", "avgif"], "avg(a) FILTER (WHERE a > b)"),
    (
        &["count_distinct", "countdistinct", "uniqexact"],
        "count(DISTINCT x)",
    ),
    (
        &[
            "approx_count_distinct",
            "hll_count",
            "uniq",
            "uniqcombined",
            "uniqhll12",
        ],
        "approx_distinct(x)",
    ),
    (&["every", "logical_and"], "bool_and(a > b)"),
    (&["boolor_agg", "logical_or"], "bool_or(a > b)"),
    (
        &["arg_min", "argmin", "min_by"],
        "first_value(x ORDER BY a)",
    ),
    (&["arg_max", "argmax", "max_by"], "last_value(x ORDER BY a)"),
    (&["first"], "first_value(x ORDER BY t)"),
    (&["anylast", "last"], "last_value(x ORDER BY t)"),
    (&["any", "arbitrary"], "min(x)"),
    (&["group_concat", "listagg"], "string_agg(x, ',')"),
    (&["collect_list", "grouparray", "list"], "array_agg(x)"),
    (&["collect_set", "groupuniqarray"], "array_agg(DISTINCT x)"),
    (
        &["percentile", "percentile_disc", "quantile", "quantileexact"],
        "percentile_cont(f, 0.5)",
    ),
    (
        &[
            "approx_percentile",
            "approx_quantile",
            "percentile_approx",
            "quantiletdigest",
        ],
        "approx_percentile_cont(f, 0.5)",
    ),
    (&["variance", "varsamp"], "var(f)"),
    (&["stddevsamp"], "stddev(f)"),
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use tagflow_operators::window::Emission;
    use tagflow_schemas::Column;

    use super::*;
    use crate::sql::{Definition, Functions, Program};

    /// Plans `sql` over rows with a column for each name in the entries.
    fn problems(sql: &str) -> Vec<String> {
        let columns = [
            ("a", "int64"),
            ("b", "int64"),
            ("f", "float64"),
            ("x", "string"),
            ("y", "string"),
            ("t", "timestamp(ms)"),
            ("u", "timestamp(ms)"),
            ("l", "list<int64>"),
        ];
        let columns = columns.map(|(name, kind)| Column {
            name: name.into(),
            kind: kind.parse().unwrap(),
            nullable: false,
        });
        let source = Definition::Source {
            columns: columns.into(),
            event_time: "t".into(),
        };
        let query = Definition::Query {
            sql: sql.into(),
            emission: Emission::default(),
        };
        let definitions = BTreeMap::from([("rows".into(), source), ("q".into(), query)]);
        let program = Program::plan(&definitions, |_| false);
        let faults = program.faults().iter();
        faults.map(|fault| fault.error.to_string()).collect()
    }

    #[test]
    fn what_is_suggested_can_be_planned() {
        for (names, sql) in SCALARS {
            let problems = problems(&format!("SELECT {sql} AS it FROM rows"));
            assert!(problems.is_empty(), "{names:?}: {problems:?}");
        }
        for (names, sql) in AGGREGATES {
            let problems = problems(&format!(
                "SELECT tumble(t, INTERVAL '1 minute') AS w, {sql} AS it FROM rows GROUP BY 1"
            ));
            assert!(problems.is_empty(), "{names:?}: {problems:?}");
        }
    }

    #[test]
    fn names_are_of_other_dialects_alone_and_stand_once() {
        let functions = Functions::new();
        let mut seen = BTreeSet::new();
        for name in names() {
            assert!(!functions.knows(name), "`{name}` is a function");
            assert!(seen.insert(name), "`{name}` stands twice");
        }
    }
}
