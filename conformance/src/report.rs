//! What a run found: as text, as JSON and as JUnit XML, and whether it passes.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The store does what the case asks.
    Passed,
    /// It does not.
    Failed {
        /// What was done, what was expected and what came.
        why: String,
    },
    /// The case did not run. Never counts as passed.
    Skipped {
        /// The ability that is not declared, or the hook that is not offered.
        reason: String,
    },
}

/// One case and how it ended.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// The stable id: `put.atomic`.
    pub id: &'static str,
    /// What the case proves, in one line.
    pub about: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub elapsed: Duration,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The name of the store.
    pub subject: String,
    /// The seed; the same seed repeats the run.
    pub seed: u64,
    /// The prefix everything was written under.
    pub prefix: String,
    /// Each selected case, in the order in which they ran.
    pub results: Vec<CaseResult>,
    /// Why the run as a whole is void: the store did not open, the run was
    /// stopped, the clean-up failed, no case was selected, or a case was
    /// skipped that should have run.
    pub problems: Vec<String>,
    /// How long the run took, with the clean-up.
    pub elapsed: Duration,
}

impl Report {
    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.results.iter().filter(|result| which(&result.outcome)).count()
    }

    /// How many cases passed.
    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    /// How many cases failed.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed { .. }))
    }

    /// How many cases were skipped.
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped { .. }))
    }

    /// Whether the store can be trusted: something passed, nothing failed, and
    /// the run has no problem.
    pub fn is_success(&self) -> bool {
        self.failed() == 0 && self.passed() > 0 && self.problems.is_empty()
    }

    /// The exit status: 0 for success, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_success())
    }

    /// The ids of the cases that failed.
    pub fn failures(&self) -> Vec<&'static str> {
        let failed = |result: &&CaseResult| matches!(result.outcome, Outcome::Failed { .. });
        self.results.iter().filter(failed).map(|result| result.id).collect()
    }

    /// The ids of the cases that were skipped.
    pub fn skips(&self) -> Vec<&'static str> {
        let skipped = |result: &&CaseResult| matches!(result.outcome, Outcome::Skipped { .. });
        self.results.iter().filter(skipped).map(|result| result.id).collect()
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let cases: Vec<Value> = self.results.iter().map(case_json).collect();
        json!({
            "subject": self.subject,
            "seed": self.seed.to_string(),
            "prefix": self.prefix,
            "passed": self.passed(),
            "failed": self.failed(),
            "skipped": self.skipped(),
            "success": self.is_success(),
            "seconds": self.elapsed.as_secs_f64(),
            "problems": self.problems,
            "cases": cases,
        })
    }

    /// The report as JUnit XML, as CI servers read it.
    pub fn to_junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let errors = self.problems.len();
        let tests = self.results.len() + errors;
        let _ = writeln!(
            xml,
            "<testsuite name=\"walport-conformance {}\" tests=\"{tests}\" failures=\"{}\" errors=\"{errors}\" skipped=\"{}\" time=\"{:.3}\">",
            escape(&self.subject),
            self.failed(),
            self.skipped(),
            self.elapsed.as_secs_f64()
        );
        let _ = writeln!(
            xml,
            "  <properties>\n    <property name=\"seed\" value=\"{}\"/>\n    <property name=\"prefix\" value=\"{}\"/>\n  </properties>",
            self.seed,
            escape(&self.prefix)
        );
        for result in &self.results {
            junit_case(&mut xml, result);
        }
        for problem in &self.problems {
            let _ = writeln!(
                xml,
                "  <testcase classname=\"run\" name=\"run\"><error message=\"{}\"/></testcase>",
                escape(problem)
            );
        }
        xml.push_str("</testsuite>\n");
        xml
    }
}

fn case_json(result: &CaseResult) -> Value {
    let (outcome, reason) = match &result.outcome {
        Outcome::Passed => ("passed", None),
        Outcome::Failed { why } => ("failed", Some(why)),
        Outcome::Skipped { reason } => ("skipped", Some(reason)),
    };
    json!({
        "id": result.id,
        "about": result.about,
        "outcome": outcome,
        "reason": reason,
        "seconds": result.elapsed.as_secs_f64(),
    })
}

fn junit_case(xml: &mut String, result: &CaseResult) {
    let group = result.id.split_once('.').map_or(result.id, |(group, _)| group);
    let _ = write!(
        xml,
        "  <testcase classname=\"{group}\" name=\"{}\" time=\"{:.3}\"",
        escape(result.id),
        result.elapsed.as_secs_f64()
    );
    let _ = match &result.outcome {
        Outcome::Passed => writeln!(xml, "/>"),
        Outcome::Failed { why } => {
            writeln!(xml, "><failure message=\"{}\"/></testcase>", escape(why))
        }
        Outcome::Skipped { reason } => {
            writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(reason))
        }
    };
}

/// Text for an XML attribute; characters that XML 1.0 cannot hold become `?`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// One line of the human report: `failed   put.atomic       0.1 s  why`.
impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, reason) = match &self.outcome {
            Outcome::Passed => ("passed", None),
            Outcome::Failed { why } => ("FAILED", Some(why)),
            Outcome::Skipped { reason } => ("skipped", Some(reason)),
        };
        write!(f, "{word:<8} {:<24} {:>7.2} s", self.id, self.elapsed.as_secs_f64())?;
        match reason {
            Some(reason) => write!(f, "  {reason}"),
            None => Ok(()),
        }
    }
}

/// The whole report for people: a line for each case, then the summary.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for result in &self.results {
            writeln!(f, "{result}")?;
        }
        write!(f, "{}", self.summary())
    }
}

impl Report {
    /// The last lines of the human report: problems, counts, seed and prefix.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            let _ = writeln!(text, "PROBLEM  {problem}");
        }
        let _ = writeln!(
            text,
            "{}: {} passed, {} failed, {} skipped in {:.1} s: {}",
            self.subject,
            self.passed(),
            self.failed(),
            self.skipped(),
            self.elapsed.as_secs_f64(),
            if self.is_success() { "conforms" } else { "does NOT conform" },
        );
        let _ = writeln!(text, "seed {}, prefix {}", self.seed, self.prefix);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let result = |id, outcome| CaseResult { id, about: "it", outcome, elapsed: Duration::ZERO };
        Report {
            subject: "a<b".into(),
            seed: u64::MAX,
            prefix: "walport-conformance-00/".into(),
            results: vec![
                result("put.roundtrip", Outcome::Passed),
                result("get.range", Outcome::Failed { why: "got \"x\" & \u{1}".into() }),
                result("copy.bytes", Outcome::Skipped { reason: "not declared".into() }),
            ],
            problems: vec![],
            elapsed: Duration::from_millis(1500),
        }
    }

    #[test]
    fn a_skip_is_not_a_pass_and_a_failure_decides() {
        let mut report = report();
        assert_eq!((report.passed(), report.failed(), report.skipped()), (1, 1, 1));
        assert_eq!(report.exit_code(), 1);
        report.results.remove(1);
        assert_eq!(report.exit_code(), 0);
        report.results.remove(0);
        assert_eq!(report.exit_code(), 1, "a run in which nothing passed proves nothing");
    }

    #[test]
    fn a_problem_voids_the_run() {
        let mut report = report();
        report.results.remove(1);
        report.problems.push("the run was stopped".into());
        assert!(!report.is_success());
        assert!(report.to_junit().contains("<error message=\"the run was stopped\"/>"));
    }

    #[test]
    fn the_forms_agree() {
        let report = report();
        let json = report.to_json();
        assert_eq!(json["cases"][1]["outcome"], "failed");
        assert_eq!(json["cases"][2]["reason"], "not declared");
        // A number this large does not survive a JavaScript reader.
        assert_eq!(json["seed"], "18446744073709551615");
        let xml = report.to_junit();
        assert!(xml.contains("name=\"walport-conformance a&lt;b\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\""));
        assert!(xml.contains("<failure message=\"got &quot;x&quot; &amp; ?\"/>"));
        let text = report.to_string();
        assert!(text.contains("does NOT conform") && text.contains("seed 18446744073709551615"));
    }
}
