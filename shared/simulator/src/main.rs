//! `slipway-simulate`: plays many seeds, or one in detail.

#![expect(clippy::print_stdout, reason = "a program's words")]

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser;
use mimalloc::MiMalloc;
use slipway_simulator::{Coverage, Options, Violation, play_choices, play_seed, shrink};

/// A fifth of the time is spent on memory with the system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Plays the control plane on simulated stores, queues and clusters.
#[derive(Debug, Parser)]
#[command(name = "slipway-simulate", bin_name = "cargo xtask simulate")]
struct Arguments {
    /// How many seeds are played.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Plays this seed only, and shows everything that happens.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Plays the decisions in this file, and shows everything that happens.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "seed"])]
    replay: Option<PathBuf>,
    /// Where the decisions of a failing run are left, made as few as possible.
    #[arg(long, value_name = "FOLDER", default_value = "target/simulate")]
    failures: PathBuf,
    /// Threads; one for each processor if absent.
    #[arg(long)]
    threads: Option<usize>,
    /// Leaves a failing run as it is, which takes no time.
    #[arg(long)]
    as_it_is: bool,
    /// Goes on after seeds that break something, and counts them.
    #[arg(long)]
    keep_going: bool,
    /// Goes on after seeds that break anything but this, which may be said several times.
    #[arg(long, value_name = "INVARIANT", conflicts_with = "keep_going")]
    until: Vec<String>,
}

impl Arguments {
    /// Whether nothing more is to be played after a seed that broke something.
    fn is_over(&self, violation: &Violation) -> bool {
        let broken = format!("{:?}", violation.invariant);
        !self.keep_going && (self.until.is_empty() || self.until.contains(&broken))
    }
}

/// So many runs go through everything that can go wrong and every end that things can come to.
const ENOUGH: u64 = 10_000;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(file) = &arguments.replay {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                println!("cannot read {}: {error}", file.display());
                return ExitCode::FAILURE;
            }
        };
        let choices: Vec<u32> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let outcome = play_choices(&choices, &traced());
        return show(&outcome.trace, outcome.violation.as_ref(), &outcome.coverage);
    }
    if let Some(seed) = arguments.seed {
        let outcome = play_seed(seed, &traced());
        return show(&outcome.trace, outcome.violation.as_ref(), &outcome.coverage);
    }
    many(&arguments)
}

fn traced() -> Options {
    Options {
        traced: true,
        ..Options::default()
    }
}

fn show(trace: &str, violation: Option<&Violation>, coverage: &Coverage) -> ExitCode {
    print!("{trace}");
    println!("{coverage}");
    match violation {
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    let available = thread::available_parallelism().map_or(1, Into::into);
    let threads = arguments.threads.unwrap_or(available).max(1);
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Coverage::default());
    let broken: Mutex<Vec<(u64, Violation)>> = Mutex::default();
    let began = std::time::Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = Coverage::default();
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= arguments.seeds {
                        break;
                    }
                    let seed = arguments.from + index;
                    let outcome = play_seed(seed, &Options::default());
                    mine.add(&outcome.coverage);
                    if let Some(violation) = outcome.violation {
                        if arguments.is_over(&violation) {
                            stop.store(true, Ordering::Relaxed);
                        }
                        if let Ok(mut broken) = broken.lock() {
                            broken.push((seed, violation));
                        }
                    }
                }
                if let Ok(mut total) = total.lock() {
                    total.add(&mine);
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let total = total.into_inner().unwrap_or_default();
    println!("{total}");
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let (seeds, executions, faults) = (total.seeds as f64, total.executions as f64, total.faults() as f64);
    println!(
        "{seconds:.1} s: {:.0} seeds/s, {:.0} executions/s, {:.1} faults a seed, {threads} threads",
        seeds / seconds,
        executions / seconds,
        faults / seeds.max(1.0)
    );
    let mut broken = broken.into_inner().unwrap_or_default();
    if broken.is_empty() {
        let never = total.never();
        if total.seeds < ENOUGH || never.is_empty() {
            return ExitCode::SUCCESS;
        }
        println!("in {} runs there never was: {}", total.seeds, never.join(", "));
        return ExitCode::FAILURE;
    }
    broken.sort_by_key(|(seed, _)| *seed);
    let mut kinds: BTreeMap<_, Vec<&(u64, Violation)>> = BTreeMap::new();
    for found in &broken {
        kinds.entry(found.1.invariant).or_default().push(found);
    }
    for (invariant, found) in &kinds {
        println!("{invariant:?}: {} seeds", found.len());
        for (seed, violation) in found.iter().take(3) {
            println!("seed {seed}: {violation}");
        }
    }
    println!("{} seeds broke something", broken.len());
    let (seed, violation) = &broken[0];
    println!("\nreplay it:        cargo xtask simulate --seed {seed}");
    if arguments.as_it_is {
        return ExitCode::FAILURE;
    }
    let outcome = play_seed(*seed, &Options::default());
    let small = shrink(&outcome.choices, violation.invariant, &Options::default(), 3000);
    let file = arguments.failures.join(format!("{seed}.choices"));
    let text: Vec<String> = small.iter().map(ToString::to_string).collect();
    let kept = fs::create_dir_all(&arguments.failures).and_then(|()| fs::write(&file, text.join(" ")));
    match kept {
        Ok(()) => println!(
            "as small as may be ({} of {} decisions): cargo xtask simulate --replay {}",
            small.len(),
            outcome.choices.len(),
            file.display()
        ),
        Err(error) => println!("{} cannot be written: {error}", file.display()),
    }
    ExitCode::FAILURE
}
