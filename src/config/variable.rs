//! One variable: its documented facts, and how its text becomes a typed value.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Program;

/// What is wrong with a text and how to fix it. Neither may repeat the text.
pub(super) type Unfit = (String, String);

/// A value, or why its text gives none.
pub(super) type Fallible<T> = Result<T, Unfit>;

/// Why a text cannot be used, and how to fix it.
pub(super) fn unfit(problem: impl Into<String>, mend: impl Into<String>) -> Unfit {
    (problem.into(), mend.into())
}

/// What a program does when a variable is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The program does not start.
    Required,
    /// The program works without it.
    Optional,
    /// The program uses this value.
    Default(&'static str),
}

/// The facts of one variable of the environment, whatever its type is.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The programs that read it.
    pub read_by: &'static [(Program, Need)],
    /// It may also come from the file that its name with `_FILE` added names, and is never shown.
    pub secret: bool,
    /// For a whole number: the allowed range.
    pub bounds: Option<RangeInclusive<u64>>,
    /// Its meaning, with its unit.
    pub meaning: &'static str,
    /// The first release that reads it.
    pub since: &'static str,
}

impl Variable {
    /// What `program` does when it is absent, or `None` if the program does not read it.
    pub fn need(&self, program: Program) -> Option<Need> {
        self.read_by.iter().find(|(reader, _)| *reader == program).map(|(_, need)| *need)
    }
}

/// One variable whose value is a `T`. All of them are declared in `table`.
pub struct Var<T> {
    /// Its documented facts.
    pub facts: Variable,
    parse: Parse<T>,
    doubts: fn(&T) -> Vec<String>,
}

enum Parse<T> {
    Text(fn(&str) -> Fallible<T>),
    /// The least, the most, and how a number between them becomes a value.
    Number(u64, u64, fn(u64) -> Option<T>),
}

impl<T> Var<T> {
    const fn new(parse: Parse<T>, bounds: Option<RangeInclusive<u64>>) -> Var<T> {
        let facts = Variable { name: "", read_by: &[], secret: false, bounds, meaning: "", since: "" };
        Var { facts, parse, doubts: |_| Vec::new() }
    }

    const fn whole(bounds: RangeInclusive<u64>, value: fn(u64) -> Option<T>) -> Var<T> {
        Var::new(Parse::Number(*bounds.start(), *bounds.end(), value), Some(bounds))
    }

    /// Adds a check whose findings are warnings.
    pub(super) const fn doubted(mut self, doubts: fn(&T) -> Vec<String>) -> Var<T> {
        self.doubts = doubts;
        self
    }

    /// Adds the facts of the declaration. Only `variables!` makes variables, and it calls this, so each has a name.
    pub(super) const fn declared(
        mut self,
        name: &'static str,
        meaning: &'static str,
        read_by: &'static [(Program, Need)],
        since: &'static str,
    ) -> Var<T> {
        (self.facts.name, self.facts.meaning) = (name, meaning);
        (self.facts.read_by, self.facts.since) = (read_by, since);
        self
    }

    /// Reads a text without white space around it.
    pub(super) fn parse(&self, text: &str) -> Fallible<T> {
        match self.parse {
            Parse::Text(parse) => parse(text),
            Parse::Number(least, most, value) => {
                let wrong = |problem| unfit(problem, format!("Give a whole number from {least} to {most}"));
                let number: u64 = text.parse().map_err(|_| wrong("it is not a whole number"))?;
                let within = Some(number).filter(|number| (least..=most).contains(number));
                within.and_then(value).ok_or_else(|| wrong("it is out of bounds"))
            }
        }
    }

    /// Likely mistakes in a valid value.
    pub(super) fn doubts(&self, value: &T) -> Vec<String> {
        (self.doubts)(value)
    }
}

/// Text that `parse` reads.
pub(super) const fn text<T>(parse: fn(&str) -> Fallible<T>) -> Var<T> {
    Var::new(Parse::Text(parse), None)
}

/// Text that is never shown, and may come from a file.
pub(super) const fn secret<T>(parse: fn(&str) -> Fallible<T>) -> Var<T> {
    let mut secret = text(parse);
    secret.facts.secret = true;
    secret
}

/// A whole number.
pub(super) const fn number<N: TryFrom<u64>>(bounds: RangeInclusive<u64>) -> Var<N> {
    Var::whole(bounds, |number| N::try_from(number).ok())
}

/// A time in whole seconds.
pub(super) const fn seconds(bounds: RangeInclusive<u64>) -> Var<Duration> {
    Var::whole(bounds, |seconds| Some(Duration::from_secs(seconds)))
}

/// A time in whole seconds, where 0 turns off what happens at that interval.
pub(super) const fn seconds_or_off(bounds: RangeInclusive<u64>) -> Var<Option<Duration>> {
    Var::whole(bounds, |seconds| Some(Some(seconds).filter(|s| *s > 0).map(Duration::from_secs)))
}

/// The value that one of two words stands for.
pub(super) fn one_of<T>(value: &str, [(first, left), (second, right)]: [(&str, T); 2]) -> Fallible<T> {
    match value {
        _ if value == first => Ok(left),
        _ if value == second => Ok(right),
        _ => Err(unfit(format!("it is neither {first} nor {second}"), format!("Say {first} or {second}"))),
    }
}
