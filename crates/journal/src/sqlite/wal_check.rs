//! Finds out whether a write-ahead log that a crash left behind was torn or was damaged.
//!
//! SQLite's recovery ends at the first frame whose checksum is wrong. After a crash that is right:
//! the last transaction was being written. But a byte that was flipped in the middle of the log
//! looks the same to it, and everything after is dropped without a word, although it had been synced
//! and acknowledged.
//!
//! The two can be told apart, since each append is synced before the next one begins: only the last
//! transaction can be torn. Where a later transaction follows the bad frame, the bad one had been
//! synced, so the log was damaged. (A flipped byte in the very last transaction cannot be told from
//! a torn one by what is in the file.)
//!
//! The log is written again from its beginning once all of it is in the main file. Frames of an earlier use stay behind
//! those of the present one, and have other salts. SQLite syncs the new header before the first new frame: so frames of
//! the next use after the header of the one before mean that a synced header is gone, and a torn header stands before
//! frames that are all in the main file ([`wal_moved`](super::wal_moved) looks).
//!
//! The format is at <https://sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::wal_moved;

const HEADER_BYTES: usize = 32;
pub(super) const FRAME_HEADER_BYTES: usize = 24;
/// What a disk writes whole or not at all, at the least.
const SECTOR_BYTES: u64 = 512;
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// What a log is like.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Every byte belongs to a whole transaction, or there is no log.
    Whole,
    /// The transactions up to here are whole; what follows was never acknowledged, or is of an earlier use of the file.
    Torn {
        /// The length of the whole transactions.
        bytes_whole: u64,
    },
    /// A transaction that had been synced is not as it was written.
    Damaged {
        /// Where in the file the first bad frame (or the header) begins.
        offset: u64,
    },
}

/// Reads the log at `path` of the file `main`; a missing one is whole.
pub(super) fn check(path: &Path, main: &Path) -> io::Result<Finding> {
    let open = || File::open(path).map(|file| BufReader::with_capacity(1 << 20, file));
    let log = match open() {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Finding::Whole),
        Err(error) => return Err(error),
    };
    let finding = scan(log)?;
    if finding == (Finding::Damaged { offset: 0 }) {
        let mut log = open()?;
        fill(&mut log, &mut [0; HEADER_BYTES])?;
        if wal_moved::is_in_main(log, main)? {
            return Ok(Finding::Torn { bytes_whole: 0 });
        }
    }
    Ok(finding)
}

/// The running checksum of the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksum(u32, u32);

impl Checksum {
    fn add(self, bytes: &[u8], big_endian: bool) -> Self {
        let word = |four: &[u8]| {
            let four = [four[0], four[1], four[2], four[3]];
            if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
        };
        let Self(mut a, mut b) = self;
        for pair in bytes.chunks_exact(8) {
            a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
            b = b.wrapping_add(word(&pair[4..])).wrapping_add(a);
        }
        Self(a, b)
    }
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// What the frames of one use of the log have in common.
#[derive(Clone, Copy)]
pub(super) struct Use {
    pub(super) big_endian: bool,
    pub(super) salts: (u32, u32),
}

/// What the log's header says.
struct Header {
    page_bytes: usize,
    frames: Use,
    checksum: Checksum,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let magic = be_u32(bytes, 0);
        let page_bytes = be_u32(bytes, 8) as usize;
        let big_endian = magic & 1 == 1;
        let checksum = Checksum(0, 0).add(&bytes[..24], big_endian);
        let valid = magic & !1 == MAGIC
            && be_u32(bytes, 4) == VERSION
            && page_bytes.is_power_of_two()
            && (512..=65536).contains(&page_bytes)
            && checksum == Checksum(be_u32(bytes, 24), be_u32(bytes, 28));
        let salts = (be_u32(bytes, 16), be_u32(bytes, 20));
        valid.then_some(Self { page_bytes, frames: Use { big_endian, salts }, checksum })
    }

    /// The header of the use after this one, as SQLite writes it: the first salt counts, the second one is random.
    fn of_next_use(mut bytes: [u8; HEADER_BYTES], random_salt: u32) -> Option<Self> {
        for (at, number) in [(12, be_u32(&bytes, 12).wrapping_add(1)), (16, be_u32(&bytes, 16).wrapping_add(1))] {
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        bytes[20..24].copy_from_slice(&random_salt.to_be_bytes());
        let Checksum(first, second) = Checksum(0, 0).add(&bytes[..24], be_u32(&bytes, 0) & 1 == 1);
        bytes[24..28].copy_from_slice(&first.to_be_bytes());
        bytes[28..].copy_from_slice(&second.to_be_bytes());
        Self::parse(&bytes)
    }
}

/// One frame as it stands in the file.
pub(super) struct Frame<'a>(pub(super) &'a [u8]);

impl Frame<'_> {
    /// The pages that the file has after the transaction that this frame ends, else 0.
    pub(super) fn pages_after(&self) -> u32 {
        be_u32(self.0, 4)
    }

    pub(super) fn page(&self) -> u32 {
        be_u32(self.0, 0)
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.0[FRAME_HEADER_BYTES..]
    }

    pub(super) fn is_commit(&self) -> bool {
        self.pages_after() != 0
    }

    pub(super) fn salts(&self) -> (u32, u32) {
        (be_u32(self.0, 8), be_u32(self.0, 12))
    }

    pub(super) fn is_of(&self, frames: Use) -> bool {
        self.salts() == frames.salts
    }

    pub(super) fn stored_checksum(&self) -> Checksum {
        Checksum(be_u32(self.0, 16), be_u32(self.0, 20))
    }

    /// Whether this frame was written right after the one with the checksum `before`.
    pub(super) fn follows(&self, before: Checksum, frames: Use) -> bool {
        let checksum = before.add(&self.0[..8], frames.big_endian).add(self.content(), frames.big_endian);
        self.is_of(frames) && checksum == self.stored_checksum()
    }
}

fn scan(mut log: impl Read) -> io::Result<Finding> {
    let mut header_bytes = [0; HEADER_BYTES];
    let header_length = fill(&mut log, &mut header_bytes)?;
    if header_length == 0 {
        return Ok(Finding::Whole);
    }
    let Some(header) = Header::parse(&header_bytes) else {
        // SQLite syncs the header before it writes the first frame. So a bad header alone is torn, and a bad header
        // before frames is damaged, if they were not moved before.
        let frames_follow = fill(&mut log, &mut [0])? > 0;
        let torn = Finding::Torn { bytes_whole: 0 };
        return Ok(if frames_follow { Finding::Damaged { offset: 0 } } else { torn });
    };

    let mut bytes = vec![0; FRAME_HEADER_BYTES + header.page_bytes];
    let mut offset = HEADER_BYTES as u64;
    let mut bytes_whole = offset;
    let mut checksum = header.checksum;
    loop {
        let length = fill(&mut log, &mut bytes)?;
        if length < bytes.len() {
            let at_end = length == 0 && bytes_whole == offset;
            return Ok(if at_end { Finding::Whole } else { Finding::Torn { bytes_whole } });
        }
        let frame = Frame(&bytes);
        if !frame.follows(checksum, header.frames) {
            break;
        }
        checksum = frame.stored_checksum();
        offset += length as u64;
        if frame.is_commit() {
            bytes_whole = offset;
        }
    }

    // `bytes` holds the first bad frame. Whatever follows decides what it means.
    let bad = Frame(&bytes);
    let next_use = Header::of_next_use(header_bytes, bad.salts().1);
    if next_use.is_some_and(|next| bad.follows(next.checksum, next.frames)) {
        return Ok(Finding::Damaged { offset: 0 });
    }
    let ends = |frame: &Frame<'_>, at: u64, is_whole: bool| frame.is_commit() && (is_whole || is_in_one_sector(at));
    let mut before_commits = ends(&bad, offset, false);
    let mut commits = u32::from(before_commits && bad.is_of(header.frames));
    let mut before = bad.stored_checksum();
    let mut at = offset + bytes.len() as u64;
    while fill(&mut log, &mut bytes)? == bytes.len() {
        let frame = Frame(&bytes);
        let follows = frame.follows(before, header.frames);
        let commits_here = ends(&frame, at, follows);
        // Frames with other salts are what an earlier use of the file left behind.
        if frame.is_of(header.frames) {
            // The frame before ended a transaction and this one was written right after it: the
            // next transaction had begun, so the bad one was synced.
            let next_had_begun = before_commits && follows;
            commits += u32::from(commits_here);
            if next_had_begun || commits > 1 {
                return Ok(Finding::Damaged { offset });
            }
        }
        before_commits = commits_here;
        before = frame.stored_checksum();
        at += bytes.len() as u64;
    }
    Ok(Finding::Torn { bytes_whole })
}

/// Whether a crash leaves a frame's header there whole, as it was or as it was to be. One in two sectors can be half of a frame
/// that was being written and half of what was there before: by which it may seem to end a transaction.
fn is_in_one_sector(at: u64) -> bool {
    at % SECTOR_BYTES + FRAME_HEADER_BYTES as u64 <= SECTOR_BYTES
}

/// Reads until `buffer` is full or the end, and returns how many bytes there were.
pub(super) fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match log.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A log that SQLite itself wrote: five transactions, the ends of each.
    fn real_log() -> (Vec<u8>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let wal = dir.path().join("db-wal");
        let db = Connection::open(&path).unwrap();
        db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).unwrap();
        db.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap();
        db.execute_batch("CREATE TABLE t(x)").unwrap();
        let mut ends = vec![std::fs::metadata(&wal).unwrap().len() as usize];
        for _ in 0..4 {
            db.execute("INSERT INTO t VALUES (randomblob(9000))", []).unwrap();
            ends.push(std::fs::metadata(&wal).unwrap().len() as usize);
        }
        (std::fs::read(&wal).unwrap(), ends)
    }

    /// How many rows SQLite itself recovers from the log.
    fn rows_recovered(log: &[u8]) -> i64 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let empty = Connection::open(&path).unwrap();
        empty.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).unwrap();
        drop(empty);
        std::fs::write(dir.path().join("db-wal"), log).unwrap();
        let db = Connection::open(&path).unwrap();
        db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap_or(0)
    }

    #[test]
    fn a_log_cut_anywhere_is_torn_and_its_whole_part_is_what_sqlite_recovers() {
        let (log, ends) = real_log();
        assert_eq!(scan(log.as_slice()).unwrap(), Finding::Whole);
        for length in (0..=log.len()).step_by(577).chain(ends.iter().copied()) {
            let whole = ends.iter().rev().find(|&&end| end <= length).copied();
            let expected = match whole {
                Some(end) if end == length => Finding::Whole,
                Some(end) => Finding::Torn { bytes_whole: end as u64 },
                None if length == 0 => Finding::Whole,
                None if length < HEADER_BYTES => Finding::Torn { bytes_whole: 0 },
                None => Finding::Torn { bytes_whole: HEADER_BYTES as u64 },
            };
            assert_eq!(scan(&log[..length]).unwrap(), expected, "cut at {length}");
        }
        let cut = ends[2] + 100;
        assert_eq!(rows_recovered(&log[..cut]), rows_recovered(&log[..ends[2]]));
        assert_eq!(rows_recovered(&log[..cut]), 2);
    }

    #[test]
    fn a_byte_flipped_before_the_last_transaction_is_damage() {
        let (log, ends) = real_log();
        let last_begins = ends[ends.len() - 2];
        for at in (0..log.len()).step_by(331) {
            let mut flipped = log.clone();
            flipped[at] ^= 0x40;
            let finding = scan(flipped.as_slice()).unwrap();
            if at < last_begins {
                assert!(
                    matches!(finding, Finding::Damaged { offset } if offset <= at as u64),
                    "flipped at {at}: {finding:?}"
                );
                assert!(rows_recovered(&flipped) < 4, "SQLite drops what follows byte {at}");
            } else {
                assert_eq!(finding, Finding::Torn { bytes_whole: last_begins as u64 });
            }
        }
    }

    #[test]
    fn every_byte_of_a_frame_header_counts() {
        let (log, ends) = real_log();
        // The header of the frame that ends the second transaction: the hardest to place.
        let page_bytes = be_u32(&log, 8) as usize;
        let start = ends[1] - page_bytes - FRAME_HEADER_BYTES;
        for at in start..start + FRAME_HEADER_BYTES {
            let mut flipped = log.clone();
            flipped[at] ^= 0x01;
            let finding = scan(flipped.as_slice()).unwrap();
            assert_eq!(finding, Finding::Damaged { offset: start as u64 }, "flipped at {at}");
        }
    }

    #[test]
    fn a_torn_transaction_whose_end_was_written_before_its_beginning_is_torn() {
        let (log, ends) = real_log();
        let begins = ends[ends.len() - 2];
        let mut torn = log.clone();
        let page_bytes = be_u32(&log, 8) as usize;
        torn[begins..begins + page_bytes].fill(0);
        let expected = Finding::Torn { bytes_whole: begins as u64 };
        assert_eq!(scan(torn.as_slice()).unwrap(), expected);
    }

    #[test]
    fn frames_of_an_earlier_use_of_the_file_do_not_count() {
        let (log, ends) = real_log();
        let (older, _) = real_log();
        let mut reused = log[..ends[2]].to_vec();
        reused.extend_from_slice(&older[ends[2]..]);
        let expected = Finding::Torn { bytes_whole: ends[2] as u64 };
        assert_eq!(scan(reused.as_slice()).unwrap(), expected);
    }

    /// A log of small pages: a transaction for each of these numbers of bytes, the ends of each.
    fn log_of_small_pages(transactions: &[i64]) -> (Vec<u8>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let wal = dir.path().join("db-wal");
        let db = Connection::open(&path).unwrap();
        db.execute_batch("PRAGMA page_size=512").unwrap();
        db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).unwrap();
        db.execute_batch("PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)").unwrap();
        let mut ends = Vec::new();
        for bytes in transactions {
            db.execute("INSERT INTO t VALUES (randomblob(?1))", [bytes]).unwrap();
            ends.push(std::fs::metadata(&wal).unwrap().len() as usize);
        }
        (std::fs::read(&wal).unwrap(), ends)
    }

    /// Whatever sectors a crash keeps of the one transaction that was being written over an earlier use of the file: it was
    /// torn, and nothing before it was damaged.
    #[test]
    fn any_part_of_the_last_transaction_over_an_earlier_use_is_torn() {
        let mut straddled = 0;
        // In the earlier use nearly each frame ended a transaction.
        let (older, _) = log_of_small_pages(&[10; 120]);
        // So that the headers lie everywhere in their sectors.
        for long_bytes in (2_000..34_000).step_by(500) {
            let (log, ends) = log_of_small_pages(&[long_bytes, 1_500]);
            let page_bytes = be_u32(&log, 8) as usize;
            let (from, to) = (ends[0], ends[1]);
            let headers = (from..to).step_by(FRAME_HEADER_BYTES + page_bytes);
            straddled += headers.filter(|at| !is_in_one_sector(*at as u64)).count();
            for _ in 0..200 {
                let mut left = [&log[..from], &older[from..]].concat();
                for sector in (from / 512 * 512..to).step_by(512).filter(|_| fastrand::bool()) {
                    let (start, end) = (sector.max(from), (sector + 512).min(to));
                    left[start..end].copy_from_slice(&log[start..end]);
                }
                match scan(left.as_slice()).unwrap() {
                    Finding::Torn { bytes_whole } => assert!([from, to].contains(&(bytes_whole as usize))),
                    other => panic!("{long_bytes}: {other:?}"),
                }
            }
        }
        assert!(straddled > 5, "{straddled}");
    }
}
