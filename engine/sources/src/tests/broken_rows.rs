//! A broken row is reported with its line, and only it is missing.

use arrow::array::AsArray;

use super::*;
use crate::Format;

/// `kept` are the statuses of the rows that became events; `broken` are lines and parts of reasons.
fn check(ending: &str, bytes: &[u8], map: &str, set: &str, kept: &[&str], broken: &[(u64, &str)]) {
    let file = TempFile::new(ending, bytes);
    for batch_rows in [1, 3, 8_192] {
        let whole = read(file.path(), &SourceOptions { batch_rows, ..options(map, set, None) }).unwrap();
        let statuses: Vec<&str> = whole.events["status"].as_string::<i32>().iter().flatten().collect();
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(statuses, kept, "{shown}: {:?}", whole.broken);
        assert_eq!(whole.broken.len(), broken.len(), "{shown}: {:?}", whole.broken);
        for (found, (line, reason)) in whole.broken.iter().zip(broken) {
            assert!(found.line == *line && found.reason.contains(reason), "{found:?} is not {line}: {reason}");
        }
        assert!(whole.rows.is_sorted() && whole.lines.is_sorted());
    }
}

const HEAD: &str = "occurred_at,status,count\n";

#[test]
fn csv_rows() {
    let csv = |text: &str| format!("{HEAD}{text}").into_bytes();
    check(
        "csv",
        &csv("1,a,1\n2,b\n3,c,1,9\n4,d,1\n"),
        "",
        "",
        &["a", "d"],
        &[(3, "it has 2 columns where the header has 3"), (4, "it has 4 columns")],
    );
    check(
        "csv",
        &csv("x,a,1\n2,b,1.5\n3,,1\n,d,1\n5,e,\n"),
        "",
        "",
        &["e"],
        &[
            (2, "`occurred_at` is not a time"),
            (3, "`count` is not a whole number: `1.5`"),
            (4, "`status` is missing"),
            (5, "`occurred_at` is missing"),
        ],
    );
    let mut bytes = csv("1,a,1\n2,");
    bytes.extend_from_slice(b"\xff\xfe,1\n3,c,1\n");
    check("csv", &bytes, "", "", &["a", "c"], &[(3, "`status` is not valid UTF-8")]);
    let long = "x".repeat(5_000);
    check("csv", &csv(&format!("1,{long},1\n2,b,1\n")), "", "", &["b"], &[(2, "`status` is 5000 bytes long")]);
    let endless = "x".repeat(3 << 20);
    check("csv", &csv(&format!("1,{endless},1\n2,b,1\n")), "", "", &["b"], &[(2, "longer than 1048576 bytes")]);
    check("csv", &csv("1,\"open,1\n2,b,1\n3,c,1\n"), "", "", &["b", "c"], &[(2, "a quotation mark is opened")]);
}

#[test]
fn csv_as_programs_write_it() {
    let text = "\u{feff}occurred_at, status,auth_code\r\n1,\"two\r\nlines\",007\r\n\r\n2,\"a \"\"b\"\"\",\r\nx,\"y\n\",1\r\n9,z,00";
    check("csv", text.as_bytes(), "", "", &["two\r\nlines", "a \"b\"", "z"], &[(6, "is not a time")]);
    let file = TempFile::new("csv", text.as_bytes());
    let whole = read(file.path(), &options("", "", None)).unwrap();
    let codes: Vec<Option<&str>> = whole.events["auth_code"].as_string::<i32>().iter().collect();
    assert_eq!((codes, whole.lines, whole.rows), (vec![Some("007"), None, Some("00")], vec![2, 5, 8], vec![1, 2, 4]));
}

#[test]
fn json_rows() {
    let lines = concat!(
        "{\"occurred_at\":\"2025-07-12T12:00:00Z\",\"status\":\"a\",\"attributes\":{\"k\":1.50}}\n",
        "{\"occurred_at\":1,\"status\":\"b\",\"ip\":{\"v\":4}}\n\n",
        "[1]\n",
        "{\"occurred_at\":1,\"status\":\"c\"\n",
        "{\"occurred_at\":1,\"status\":\"c\",\"status\":\"d\"}\n",
        "{\"occurred_at\":1}\n",
        "{\"occurred_at\":1,\"status\":\"e\",\"attributes\":{\"k\":[1]}}\n",
        "{\"occurred_at\":1,\"status\":\"f\",\"account_id\":12345678901234567890123,\"unused\":[1]}\n",
    );
    check(
        "jsonl",
        lines.as_bytes(),
        "",
        "",
        &["a", "f"],
        &[
            (2, "`ip` is nested"),
            (4, "it is not a JSON object"),
            (5, "it is not valid JSON"),
            (6, "the key `status` stands there twice"),
            (7, "`status` is missing"),
            (8, "`attributes` is nested"),
        ],
    );
    let file = TempFile::new("jsonl", lines.as_bytes());
    let whole = read(file.path(), &options("", "", None)).unwrap();
    assert_eq!(whole.events["account_id"].as_string::<i32>().value(1), "12345678901234567890123");
}

#[test]
fn amounts_by_the_currency_of_their_row() {
    let text =
        "occurred_at,status,TX,currency\n1,a,1.5,EUR\n2,b,1.5,JPY\n3,c,150,JPY\n4,d,0.001,\n5,e,0.001,KWD\n6,f,,\n";
    check(
        "csv",
        text.as_bytes(),
        "amount=TX",
        "",
        &["a", "c", "e", "f"],
        &[(3, "`TX` is finer than the 0 decimals of JPY: `1.5`"), (5, "`TX` has no currency")],
    );
    let file = TempFile::new("csv", text.as_bytes());
    let whole = read(file.path(), &options("amount=TX", "", None)).unwrap();
    let minor: Vec<Option<i64>> =
        whole.events["amount_minor"].as_primitive::<arrow::datatypes::Int64Type>().iter().collect();
    assert_eq!(minor, [Some(150), Some(150), Some(1), None]);
}

#[test]
fn what_no_row_can_be_read_from_is_refused_at_once() {
    for (ending, bytes, set, message) in [
        ("csv", &b""[..], "", "it is empty"),
        ("csv", b"\xff\xfeo\0", "", "UTF-16"),
        ("csv", b"a,b\n1,2\n", "", "nothing fills the required column `occurred_at`"),
        ("jsonl", b"{\"occurred\":1,\"status\":\"a\"}", "", "nothing fills the required column `occurred_at`"),
        ("parquet", b"PAR0", "", "is not readable as Parquet"),
        ("xyz", b"", "", "does not tell the format"),
        ("csv", b"occurred_at,status\n", "count=one", "--set: `count` is not a whole number: `one`"),
        ("csv", b"occurred_at,status\n", "amount=1.5", "needs its currency"),
    ] {
        let file = TempFile::new(ending, bytes);
        let error = read(file.path(), &options("", set, None)).err().map(|error| error.to_string());
        assert!(error.as_deref().is_some_and(|error| error.contains(message)), "{message}: {error:?}");
    }
}

#[test]
fn a_pipe_reads_as_a_file_does() {
    let text = format!("{HEAD}1,a,1\nx,b,1\n");
    let schema = stream();
    let input = Box::new(std::io::Cursor::new(text.into_bytes()));
    let mut source = FileSource::from_input("-", input, &schema, &options("", "", None)).unwrap();
    let batch = source.next().unwrap().unwrap();
    assert_eq!((batch.events.num_rows(), batch.broken[0].line), (1, 3));
    assert!(source.next().is_none());
    let parquet = SourceOptions { format: Some(Format::Parquet), ..SourceOptions::default() };
    let error = FileSource::from_input("-", Box::new(std::io::empty()), &schema, &parquet).err().unwrap();
    assert!(error.to_string().contains("cannot be read from a pipe"));
}
