//! Questions that must be current, while the disk is full too.

use std::future::Future;

use lockstep_hub::Unavailable;

use crate::problem::Problem;

/// Failed writes that one question may meet: the loop hears of one before it can begin the next.
const TRIES: usize = 5;

/// Asks again where the answer was drawn from what could then not be written: that has not happened, and the
/// next answer is drawn from what has. So reads go on while writes are refused.
pub async fn ask<T, F>(question: impl Fn() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Unavailable>>,
{
    let mut answer = question().await;
    for _ in 1..TRIES {
        if !matches!(answer, Err(Unavailable::DiskFull | Unavailable::Poisoned(_) | Unavailable::TooLarge)) {
            break;
        }
        answer = question().await;
    }
    Ok(answer?)
}
