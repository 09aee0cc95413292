//! How often the intervals hold and how often equal arms are told apart, in simulated sweeps.
//!
//!     cargo run --release -p experiments --example coverage -- [SWEEPS]

use experiments::ablate::statistics::{Alpha, Simulation, StatisticsError};

/// The standard deviation of an arm on an example.
const ARM_SPREAD: f64 = 0.3;
/// The standard deviations of seeds.
const SEED_SPREADS: [f64; 3] = [0.0, 0.1, 0.2];
/// Resamples of the crossed bootstrap of each family.
const RESAMPLES: usize = 1000;

fn main() -> Result<(), StatisticsError> {
    let sweeps = std::env::args()
        .nth(1)
        .and_then(|sweeps| sweeps.parse().ok())
        .unwrap_or(2000);
    let alpha = Alpha::default();
    println!("coverage of 95 % intervals of a difference, {sweeps} sweeps, sb {ARM_SPREAD}");
    println!(
        "{:>5} {:>8} {:>8} {:>8} {:>8}",
        "seeds", "examples", "sa 0", "sa 0.1", "sa 0.2"
    );
    for seeds in [3, 5, 10] {
        for examples in [300, 1000] {
            print!("{seeds:>5} {examples:>8}");
            for seed_spread in SEED_SPREADS {
                let mut simulation = Simulation::new(seeds, examples, seed_spread, ARM_SPREAD);
                print!(" {:>8.3}", simulation.coverage(sweeps, alpha)?);
            }
            println!();
        }
    }
    println!();
    println!("families of 10 equal arms with a wrong verdict, {sweeps} sweeps, sb {ARM_SPREAD}");
    println!(
        "{:>5} {:>8} {:>8} {:>8} {:>8}",
        "seeds", "examples", "sa 0", "sa 0.1", "sa 0.2"
    );
    for seeds in [6, 10] {
        for examples in [300, 1000] {
            print!("{seeds:>5} {examples:>8}");
            for seed_spread in SEED_SPREADS {
                let mut simulation = Simulation::new(seeds, examples, seed_spread, ARM_SPREAD);
                let wrong = simulation.wrong_verdicts(10, RESAMPLES, sweeps, alpha)?;
                print!(" {wrong:>8.3}");
            }
            println!();
        }
    }
    Ok(())
}
