//! Runs the cases and says how they went.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::cases::{Case, cases};
use crate::failure::{Failure, Stop};
use crate::pace::Pace;
use crate::target::Target;

/// A case that fails after a hold-up as long as this is run again: several wait for half a second, and a client that
/// is late in it may be closed rightly.
const HELD_UP: Duration = Duration::from_millis(50);

/// How often a case is run that fails while the machine holds it up.
const ATTEMPTS: usize = 5;

/// Which cases to run, and how many at once.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// How many cases may run at once; most of them mainly wait. Each may hold four connections.
    pub jobs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { filter: None, jobs: 16 }
    }
}

impl Options {
    fn selected(&self, exclusive: bool) -> Vec<&'static Case> {
        let wanted =
            |case: &&Case| self.filter.as_deref().is_none_or(|part| case.name.contains(part));
        cases().iter().filter(|case| case.exclusive == exclusive).filter(wanted).collect()
    }
}

/// How one case went.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// As it must.
    Passed,
    /// A rule is broken.
    Failed(Failure),
    /// The target cannot be asked this.
    Skipped(String),
}

/// One case and how it went.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// Name of the case.
    pub name: &'static str,
    /// Section of the protocol description that states the rule.
    pub section: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// Real time it took.
    pub took: Duration,
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The cases in the order in which they ended.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// How many cases broke a rule.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|case| matches!(case.verdict, Verdict::Failed(_))).count()
    }

    /// How many cases the target could not be asked.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.cases.iter().filter(|case| matches!(case.verdict, Verdict::Skipped(_))).count()
    }

    /// How many cases went as they must.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.cases.len() - self.failed() - self.skipped()
    }

    /// Whether something ran and no rule is broken.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.passed() > 0 && self.failed() == 0
    }

    fn add(&mut self, case: CaseReport) {
        let CaseReport { name, section, verdict, took } = &case;
        let ms = took.as_millis();
        match verdict {
            Verdict::Passed => println!("ok    {name} (section {section}, {ms} ms)"),
            Verdict::Skipped(why) => println!("skip  {name} (section {section}): {why}"),
            Verdict::Failed(failure) => {
                println!("FAIL  {name} (section {section}, {ms} ms)\n{failure}")
            }
        }
        self.cases.push(case);
    }

    fn summary(&self) {
        println!("{} passed, {} failed, {} skipped", self.passed(), self.failed(), self.skipped());
    }
}

/// Runs the selected cases one after the other on the calling thread, each on a target of its own from `factory`: the
/// way for targets that are stepped by hand.
pub fn run(
    mut factory: impl FnMut() -> Result<Box<dyn Target>, String>,
    options: &Options,
) -> Report {
    let mut report = Report::default();
    for case in options.selected(false).into_iter().chain(options.selected(true)) {
        report.add(run_case(case, factory()));
    }
    report.summary();
    report
}

/// Runs the selected cases several at once, then those that need the server for themselves one after the other, in real
/// time: one that fails while the machine holds this process up is run again, and that is said.
pub fn run_parallel(
    factory: impl Fn() -> Result<Box<dyn Target>, String> + Sync,
    options: &Options,
) -> Report {
    let mut report = Report::default();
    let shared = options.selected(false);
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    let pace = Pace::watch();
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, shared.len().max(1)) {
            let done = done.clone();
            scope.spawn(|| {
                let done = done;
                while let Some(case) = shared.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver outlives this scope.
                    let _ = done.send(run_paced(case, &factory, &pace));
                }
            });
        }
        drop(done);
        // Printed here, not by the workers: lines stay whole, and a test harness captures them.
        for result in &results {
            report.add(result);
        }
    });
    for case in options.selected(true) {
        report.add(run_paced(case, &factory, &pace));
    }
    report.summary();
    report
}

fn run_paced(
    case: &'static Case,
    factory: impl Fn() -> Result<Box<dyn Target>, String>,
    pace: &Pace,
) -> CaseReport {
    let mut attempt = 1;
    loop {
        let began = Instant::now();
        let report = run_case(case, factory());
        let Verdict::Failed(failure) = &report.verdict else { return report };
        let held = pace.held_up_since(began);
        if held < HELD_UP || attempt == ATTEMPTS {
            return report;
        }
        println!(
            "again {}: failed while all was held up for {} ms\n{failure}",
            case.name,
            held.as_millis()
        );
        attempt += 1;
    }
}

fn run_case(case: &'static Case, target: Result<Box<dyn Target>, String>) -> CaseReport {
    let start = Instant::now();
    let outcome = target
        .map_err(|why| Stop::fail("a target to run against", why))
        .and_then(|mut target| (case.run)(target.as_mut()));
    let verdict = match outcome {
        Ok(()) => Verdict::Passed,
        Err(Stop::Fail(failure)) => Verdict::Failed(failure),
        Err(Stop::Skip(why)) => Verdict::Skipped(why),
    };
    CaseReport { name: case.name, section: case.section, verdict, took: start.elapsed() }
}
