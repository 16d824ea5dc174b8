//! Waiting for a condition: looked at again and again, for long enough that only a defect runs into the bound.

use std::time::Duration;

/// Two minutes: far beyond what anything here takes, even on a loaded machine.
const BOUND: Duration = Duration::from_secs(120);
const EVERY: Duration = Duration::from_millis(20);

/// Ends when `condition` gives something; fails with `what` where it never does.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let mut every = tokio::time::interval(EVERY);
    let asking = async {
        loop {
            every.tick().await;
            if let Some(found) = condition().await {
                return found;
            }
        }
    };
    match tokio::time::timeout(BOUND, asking).await {
        Ok(found) => found,
        Err(_) => panic!("waited {} s in vain for {what}", BOUND.as_secs()),
    }
}

/// The future's output; fails where it does not end within the bound.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {} s in vain for {what}", BOUND.as_secs()),
    }
}
