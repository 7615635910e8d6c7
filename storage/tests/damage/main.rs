//! Damaged files: opening finds everything that was acknowledged, or refuses and says what to do.

mod files;
mod fixture;
mod mended;
mod sound;
mod swapped;

/// What no case may take longer than: a hang would otherwise be a test that never ends.
const WATCHDOG_SECONDS: u64 = 300;

/// Ends the process if the tests hang, naming the case.
fn watched<T>(case: &str, run: impl FnOnce() -> T) -> T {
    use std::sync::mpsc;
    let (done, waits) = mpsc::channel::<()>();
    let name = case.to_owned();
    let dog = std::thread::spawn(move || {
        if waits.recv_timeout(std::time::Duration::from_secs(WATCHDOG_SECONDS)) == Err(mpsc::RecvTimeoutError::Timeout)
        {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    let result = run();
    drop(done);
    dog.join().unwrap();
    result
}
