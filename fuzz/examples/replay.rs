//! Tries inputs again: `cargo run -p roost-fuzz --example replay TARGET FILE…`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let target = args.next().unwrap_or_default();
    let known = roost_fuzz::TARGETS.iter().find(|known| known.name == target);
    let Some(target) = known else {
        let names: Vec<&str> = roost_fuzz::TARGETS.iter().map(|known| known.name).collect();
        eprintln!("usage: replay TARGET FILE…, with one of {}", names.join(", "));
        return ExitCode::from(64);
    };
    for path in args {
        match std::fs::read(&path) {
            Ok(input) => {
                println!("{path}: {} B", input.len());
                (target.run)(&input);
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::from(66);
            }
        }
    }
    println!("everything holds");
    ExitCode::SUCCESS
}
