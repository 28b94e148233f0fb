//! Reads orders from a CSV file in the layout of the UCI Online Retail set, as a stream.
//!
//! The lines of one invoice do not always stand together. So the file is read twice: [`survey`] checks every
//! line and counts the lines of each invoice, and [`Invoices`] then gives each invoice when it has its last
//! line. What is held in memory is a number for each invoice, and the lines of those that are not complete.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord};
use flate2::read::MultiGzDecoder;
use thiserror::Error;

use super::exact::Exact;
use super::totals::Totals;

/// The columns, in their order.
const COLUMNS: [&str; 8] =
    ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"];

/// Why a file can't be taken.
#[derive(Debug, Error)]
pub(crate) enum OrdersError {
    /// It can't be opened.
    #[error("the orders {} can't be opened", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is not CSV, or not readable to its end.
    #[error("the orders {} can't be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: csv::Error,
    },
    /// Its first line does not name the columns.
    #[error("the first line of {} must be {}, not {found}", path.display(), COLUMNS.join(","))]
    Columns { path: PathBuf, found: String },
    /// A value is not what its column must have.
    #[error("{}:{line}: {column} must be {expected}, not `{found}`", path.display())]
    Value { path: PathBuf, line: u64, column: &'static str, expected: &'static str, found: String },
    /// The lines of one invoice disagree.
    #[error("{}:{line}: {column} of invoice {invoice} must be that of its first line", path.display())]
    Differs { path: PathBuf, line: u64, column: &'static str, invoice: String },
    /// The file changed between the two readings.
    #[error("{} changed while it was read", path.display())]
    Changed { path: PathBuf },
}

/// One line of an invoice, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) stock_code: String,
    pub(crate) description: String,
    pub(crate) quantity: i64,
    /// The time as it stands in the file: it may differ from line to line.
    pub(crate) date: String,
    pub(crate) price: Exact,
    /// The price as it stands in the file.
    pub(crate) price_text: String,
}

/// An invoice with all its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invoice {
    pub(crate) number: String,
    /// Empty where the file has none.
    pub(crate) customer: String,
    pub(crate) country: String,
    pub(crate) lines: Vec<Line>,
}

impl Invoice {
    /// Whether it is a cancellation: a document of its own, with negative quantities.
    pub(crate) fn is_cancellation(&self) -> bool {
        is_cancellation(&self.number)
    }
}

/// Whether an invoice number is that of a cancellation.
pub(crate) fn is_cancellation(number: &str) -> bool {
    number.starts_with('C')
}

/// What the first reading finds.
#[derive(Debug)]
pub(crate) struct Survey {
    /// What the file has in all.
    pub(crate) totals: Totals,
    lines_of: HashMap<String, u32>,
}

/// Reads the whole file once: every line is checked before the first order is sent.
pub(crate) fn survey(path: &Path) -> Result<Survey, OrdersError> {
    let mut rows = Rows::open(path)?;
    let mut lines_of: HashMap<String, u32> = HashMap::new();
    let mut totals = Totals::default();
    let (mut customers, mut codes) = (HashSet::new(), HashSet::new());
    while let Some(row) = rows.next()? {
        *lines_of.entry(row.invoice.clone()).or_default() += 1;
        totals.line(row.line.quantity, row.line.price);
        codes.insert(row.line.stock_code);
        if !row.customer.is_empty() {
            customers.insert(row.customer);
        }
    }
    totals.invoices = lines_of.len() as u64;
    totals.cancellations = lines_of.keys().filter(|number| is_cancellation(number)).count() as u64;
    totals.customers = customers.len() as u64;
    totals.stock_codes = codes.len() as u64;
    Ok(Survey { totals, lines_of })
}

/// The second reading: gives the invoices, each when its last line is read.
pub(crate) struct Invoices {
    rows: Rows,
    missing: HashMap<String, u32>,
    open: HashMap<String, Invoice>,
}

impl Invoices {
    /// The invoices of a file that was surveyed.
    pub(crate) fn open(path: &Path, survey: Survey) -> Result<Self, OrdersError> {
        Ok(Self { rows: Rows::open(path)?, missing: survey.lines_of, open: HashMap::new() })
    }

    /// The next invoice that is complete; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Invoice>, OrdersError> {
        while let Some(row) = self.rows.next()? {
            let changed = || OrdersError::Changed { path: self.rows.path.clone() };
            let missing = self.missing.get_mut(&row.invoice).ok_or_else(changed)?;
            *missing = missing.checked_sub(1).ok_or_else(changed)?;
            let complete = *missing == 0;
            let invoice = self.open.entry(row.invoice.clone()).or_insert_with(|| Invoice {
                number: row.invoice.clone(),
                customer: row.customer.clone(),
                country: row.country.clone(),
                lines: Vec::new(),
            });
            for (column, first, here) in
                [("CustomerID", &invoice.customer, &row.customer), ("Country", &invoice.country, &row.country)]
            {
                if first != here {
                    let (path, invoice) = (self.rows.path.clone(), row.invoice);
                    return Err(OrdersError::Differs { path, line: row.number, column, invoice });
                }
            }
            invoice.lines.push(row.line);
            if complete {
                return Ok(self.open.remove(&row.invoice));
            }
        }
        if self.open.is_empty() { Ok(None) } else { Err(OrdersError::Changed { path: self.rows.path.clone() }) }
    }
}

struct Row {
    number: u64,
    invoice: String,
    customer: String,
    country: String,
    line: Line,
}

/// The checked lines of a file.
struct Rows {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: StringRecord,
}

impl Rows {
    fn open(path: &Path) -> Result<Self, OrdersError> {
        let file = File::open(path).map_err(|source| OrdersError::Open { path: path.to_owned(), source })?;
        let packed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        let bytes: Box<dyn Read + Send> =
            if packed { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) };
        let mut reader = ReaderBuilder::new().from_reader(bytes);
        let read = |source| OrdersError::Read { path: path.to_owned(), source };
        let headers = reader.headers().map_err(read)?;
        // Some editors put a byte order mark before the first name.
        let names =
            headers.iter().enumerate().map(|(at, n)| if at == 0 { n.trim_start_matches('\u{feff}') } else { n });
        if !names.eq(COLUMNS) {
            let found = headers.iter().collect::<Vec<_>>().join(",");
            return Err(OrdersError::Columns { path: path.to_owned(), found });
        }
        Ok(Self { path: path.to_owned(), reader, record: StringRecord::new() })
    }

    fn next(&mut self) -> Result<Option<Row>, OrdersError> {
        let read = self.reader.read_record(&mut self.record);
        if !read.map_err(|source| OrdersError::Read { path: self.path.clone(), source })? {
            return Ok(None);
        }
        let number = self.record.position().map_or(0, csv::Position::line);
        let text = |at: usize| self.record.get(at).unwrap_or_default();
        let value = |at: usize, expected| OrdersError::Value {
            path: self.path.clone(),
            line: number,
            column: COLUMNS[at],
            expected,
            found: text(at).to_owned(),
        };
        let required = |at: usize| {
            let here = text(at);
            if here.is_empty() { Err(value(at, "a text that is not empty")) } else { Ok(here.to_owned()) }
        };
        let line = Line {
            stock_code: required(1)?,
            description: text(2).to_owned(),
            quantity: text(3).parse().map_err(|_| value(3, "a whole number"))?,
            date: moment(text(4)).ok_or_else(|| value(4, "a time such as 2010-12-01 08:26:00"))?,
            price: Exact::parse(text(5)).ok_or_else(|| value(5, "a decimal number"))?,
            price_text: text(5).to_owned(),
        };
        Ok(Some(Row { number, invoice: required(0)?, customer: text(6).to_owned(), country: text(7).to_owned(), line }))
    }
}

/// `2010-12-01 08:26:00` in RFC 3339. The file names no time zone, and none is invented: it is taken as UTC.
fn moment(text: &str) -> Option<String> {
    let (date, time) = text.split_once(' ')?;
    let moment = format!("{date}T{time}Z");
    lockstep_connect::time::parse_rfc3339(&moment).map(|_| moment)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const HEAD: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn file(dir: &tempfile::TempDir, name: &str, rows: &str) -> PathBuf {
        let path = dir.path().join(name);
        let text = format!("{HEAD}{rows}");
        if name.ends_with("gz") {
            let mut packed =
                flate2::write::GzEncoder::new(File::create(&path).expect("a file"), flate2::Compression::fast());
            packed.write_all(text.as_bytes()).expect("room");
            packed.finish().expect("room");
        } else {
            std::fs::write(&path, text).expect("room");
        }
        path
    }

    fn all(path: &Path) -> Result<(Totals, Vec<Invoice>), OrdersError> {
        let survey = survey(path)?;
        let totals = survey.totals.clone();
        let mut invoices = Invoices::open(path, survey)?;
        let mut all = Vec::new();
        while let Some(invoice) = invoices.next()? {
            all.push(invoice);
        }
        Ok((totals, all))
    }

    const ROWS: &str = "1,A,\"LAMP, RED\",2,2020-01-01 10:00:00,2.5,7.0,France\n\
                        2,B,,1,2020-01-01 10:01:00,0.001,,EIRE\n\
                        C3,A,LAMP,-1,2020-01-01 10:02:00,2.5,7.0,France\n\
                        1,POST,POSTAGE,1,2020-01-01 10:03:00,0.0,7.0,France\n";

    #[test]
    fn an_invoice_is_whole_wherever_its_lines_stand() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["orders.csv", "orders.csv.gz"] {
            let (totals, invoices) = all(&file(&dir, name, ROWS)).expect("a good file");
            let numbers: Vec<_> = invoices.iter().map(|i| (i.number.as_str(), i.lines.len())).collect();
            assert_eq!(numbers, [("2", 1), ("C3", 1), ("1", 2)]);
            assert_eq!(invoices[2].lines[0].description, "LAMP, RED");
            assert_eq!(invoices[2].lines[1].date, "2020-01-01T10:03:00Z");
            assert_eq!(invoices[0].customer, "");
            assert!(invoices[1].is_cancellation());
            assert_eq!((totals.invoices, totals.cancellations, totals.lines, totals.units), (3, 1, 4, 3));
            assert_eq!(totals.gross.to_string(), "2.501");
            assert_eq!((totals.customers, totals.stock_codes), (1, 3));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let check = |rows: &str, expected: &str| {
            let error = all(&file(&dir, "bad.csv", rows)).expect_err(rows).to_string();
            assert!(error.ends_with(expected), "{error}");
        };
        check("1,A,x,1.5,2020-01-01 10:00:00,1,,UK\n", "bad.csv:2: Quantity must be a whole number, not `1.5`");
        check(
            "1,A,x,1,2020-01-01,1,,UK\n",
            "bad.csv:2: InvoiceDate must be a time such as 2010-12-01 08:26:00, not `2020-01-01`",
        );
        check("1,A,x,1,2020-01-01 10:00:00,1e3,,UK\n", "bad.csv:2: UnitPrice must be a decimal number, not `1e3`");
        check(",A,x,1,2020-01-01 10:00:00,1,,UK\n", "bad.csv:2: InvoiceNo must be a text that is not empty, not ``");
        let two = "1,A,x,1,2020-01-01 10:00:00,1,5,UK\n1,A,x,1,2020-01-01 10:00:00,1,6,UK\n";
        check(two, "bad.csv:3: CustomerID of invoice 1 must be that of its first line");
        std::fs::write(dir.path().join("other.csv"), "a,b\n1,2\n").expect("room");
        let error = all(&dir.path().join("other.csv")).expect_err("other columns").to_string();
        assert!(error.contains("InvoiceNo,StockCode") && error.ends_with("not a,b"), "{error}");
        assert!(matches!(all(&dir.path().join("none.csv")), Err(OrdersError::Open { .. })));
    }
}
