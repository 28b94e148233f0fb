//! Finds out whether a log whose header is gone holds anything that the main file does not have.
//!
//! SQLite writes a log again from its beginning, and its header first, when all of it is in the main file. Where that
//! header was torn, nothing is lost with the frames behind it. Where a header was hit that frames belong to, they are
//! what the main file does not have yet.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use super::wal_check::{FRAME_HEADER_BYTES, Frame, Use, fill};

/// Whether the main file has what the transactions of the log, read from its first frame on, say. What cannot be made
/// out is not in it.
pub(super) fn is_in_main(mut log: impl Read, main: &Path) -> io::Result<bool> {
    let mut main = File::open(main)?;
    let Some(page_bytes) = page_bytes(&mut main)? else { return Ok(false) };
    let mut bytes = vec![0; FRAME_HEADER_BYTES + page_bytes];
    if fill(&mut log, &mut bytes)? < bytes.len() {
        return Ok(false);
    }
    // The header would tell. It was written by this machine, or by one like it.
    let frames = Use { big_endian: cfg!(target_endian = "big"), salts: Frame(&bytes).salts() };
    let (mut pages, mut transaction) = (BTreeMap::new(), Vec::new());
    let mut pages_after = 0;
    let mut before = None;
    loop {
        let frame = Frame(&bytes);
        if before.is_none_or(|before| frame.follows(before, frames)) {
            transaction.push((frame.page(), xxh3_128(frame.content())));
            if frame.is_commit() {
                pages_after = frame.pages_after();
                pages.extend(transaction.drain(..));
            }
            before = Some(frame.stored_checksum());
        } else if frame.is_of(frames) && frame.is_commit() {
            // The row is broken, and goes on behind.
            return Ok(false);
        }
        if fill(&mut log, &mut bytes)? < bytes.len() {
            break;
        }
    }
    has_all(&mut main, &pages, pages_after, &mut bytes[FRAME_HEADER_BYTES..])
}

/// The size of the main file's pages, as its header says.
fn page_bytes(main: &mut File) -> io::Result<Option<usize>> {
    let mut header = [0; 100];
    if fill(main, &mut header)? < header.len() {
        return Ok(None);
    }
    let bytes = usize::from(u16::from_be_bytes([header[16], header[17]]));
    Ok((bytes.is_power_of_two() && bytes >= 512).then_some(bytes))
}

fn has_all(main: &mut File, pages: &BTreeMap<u32, u128>, pages_after: u32, page: &mut [u8]) -> io::Result<bool> {
    for (number, hash) in pages.range(..=pages_after) {
        let Some(index) = number.checked_sub(1) else { return Ok(false) };
        main.seek(SeekFrom::Start(u64::from(index) * page.len() as u64))?;
        if fill(main, page)? < page.len() || xxh3_128(page) != *hash {
            return Ok(false);
        }
    }
    Ok(pages_after > 0)
}
