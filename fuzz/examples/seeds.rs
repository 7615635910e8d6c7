//! Writes the first inputs of every corpus: `cargo run -p roost-fuzz --example seeds`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    for target in roost_fuzz::TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        std::fs::create_dir_all(&corpus)?;
        let seeds = roost_fuzz::seeds(target.name);
        for (name, input) in &seeds {
            std::fs::write(corpus.join(name), input)?;
        }
        println!("{:>4} seeds  {}", seeds.len(), target.name);
    }
    Ok(())
}
