//! SPDX licence expressions: `(MIT OR Apache-2.0) AND Unicode-3.0`, `Apache-2.0 WITH LLVM-exception`.

use std::fmt;

use anyhow::{Result, bail};

/// A licence expression as a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// One licence, with its exception if it has one: `Apache-2.0 WITH LLVM-exception`.
    Licence { id: String, exception: Option<String> },
    /// All of them bind.
    And(Vec<Expression>),
    /// The choice is ours.
    Or(Vec<Expression>),
}

impl Expression {
    /// Reads an expression. AND binds tighter than OR; `/` is read as OR, as old manifests mean it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let tokens: Vec<&str> = spaced.split_whitespace().collect();
        let mut parser = Parser { tokens: &tokens };
        let expression = parser.or()?;
        match parser.tokens.first() {
            None => Ok(expression),
            Some(token) => bail!("`{token}` is not expected there in the licence `{text}`"),
        }
    }

    /// Whether one can comply with the expression by licences that `allowed` holds.
    pub(crate) fn permits(&self, allowed: &[&str]) -> bool {
        match self {
            Self::Licence { id, exception } => {
                let stated = match exception {
                    Some(exception) => format!("{id} WITH {exception}"),
                    // "or later" leaves the choice of the version named.
                    None => id.trim_end_matches('+').to_owned(),
                };
                allowed.contains(&stated.as_str())
            }
            Self::And(parts) => parts.iter().all(|part| part.permits(allowed)),
            Self::Or(parts) => parts.iter().any(|part| part.permits(allowed)),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, word) = match self {
            Self::Licence { id, exception: None } => return f.write_str(id),
            Self::Licence { id, exception: Some(exception) } => return write!(f, "{id} WITH {exception}"),
            Self::And(parts) => (parts, " AND "),
            Self::Or(parts) => (parts, " OR "),
        };
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                f.write_str(word)?;
            }
            match part {
                Self::Licence { .. } => write!(f, "{part}")?,
                Self::And(_) | Self::Or(_) => write!(f, "({part})")?,
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    tokens: &'a [&'a str],
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn take(&mut self, wanted: &str) -> bool {
        let found = self.tokens.first() == Some(&wanted);
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    fn or(&mut self) -> Result<Expression> {
        let mut parts = vec![self.and()?];
        while self.take("OR") {
            parts.push(self.and()?);
        }
        Ok(one_or(parts, Expression::Or))
    }

    fn and(&mut self) -> Result<Expression> {
        let mut parts = vec![self.single()?];
        while self.take("AND") {
            parts.push(self.single()?);
        }
        Ok(one_or(parts, Expression::And))
    }

    fn single(&mut self) -> Result<Expression> {
        if self.take("(") {
            let inner = self.or()?;
            if !self.take(")") {
                bail!("a parenthesis of the licence is not closed");
            }
            return Ok(inner);
        }
        let id = self.name("a licence")?;
        let exception = if self.take("WITH") { Some(self.name("an exception after WITH")?) } else { None };
        Ok(Expression::Licence { id, exception })
    }

    fn name(&mut self, what: &str) -> Result<String> {
        match self.next() {
            None => bail!("{what} is missing at the end of the licence"),
            Some(token @ ("(" | ")" | "AND" | "OR" | "WITH")) => {
                bail!("{what} is missing before `{token}`")
            }
            Some(token) => Ok(token.to_owned()),
        }
    }
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `text` and prints it back with every parenthesis that its meaning needs.
    #[track_caller]
    fn reads_as(text: &str, expected: &str) {
        let expression = Expression::parse(text).expect("a licence");
        assert_eq!(expression.to_string(), expected);
        assert_eq!(Expression::parse(expected).expect("its own text"), expression);
    }

    #[track_caller]
    fn permits(text: &str, allowed: &[&str]) -> bool {
        Expression::parse(text).expect("a licence").permits(allowed)
    }

    #[test]
    fn and_binds_tighter_than_or() {
        reads_as("MIT", "MIT");
        reads_as("MIT OR Apache-2.0", "MIT OR Apache-2.0");
        reads_as("A OR B AND C", "A OR (B AND C)");
        reads_as("A AND B OR C", "(A AND B) OR C");
        reads_as("(A OR B) AND C", "(A OR B) AND C");
        reads_as("((A))", "A");
        reads_as("A AND (B OR (C AND D)) AND E", "A AND (B OR (C AND D)) AND E");
    }

    #[test]
    fn with_belongs_to_the_licence_before_it() {
        reads_as(
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        );
        assert_eq!(
            Expression::parse("GPL-2.0-only WITH Classpath-exception-2.0").expect("a licence"),
            Expression::Licence {
                id: "GPL-2.0-only".to_owned(),
                exception: Some("Classpath-exception-2.0".to_owned()),
            }
        );
    }

    #[test]
    fn an_old_slash_means_or() {
        reads_as("MIT/Apache-2.0", "MIT OR Apache-2.0");
        reads_as("MIT / Apache-2.0", "MIT OR Apache-2.0");
    }

    #[test]
    fn one_allowed_side_of_or_is_enough_but_and_wants_both() {
        let allowed = ["MIT", "ISC"];
        assert!(permits("MIT OR GPL-3.0-only", &allowed));
        assert!(permits("GPL-3.0-only OR MIT", &allowed));
        assert!(!permits("MIT AND GPL-3.0-only", &allowed));
        assert!(permits("MIT AND ISC", &allowed));
        assert!(permits("(GPL-3.0-only OR MIT) AND (ISC OR OpenSSL)", &allowed));
        assert!(!permits("(GPL-3.0-only OR OpenSSL) AND ISC", &allowed));
        assert!(permits("GPL-3.0-only AND OpenSSL OR ISC", &allowed));
    }

    #[test]
    fn an_exception_is_allowed_by_its_full_name_only() {
        let with = ["Apache-2.0 WITH LLVM-exception"];
        assert!(permits("Apache-2.0 WITH LLVM-exception", &with));
        assert!(!permits("Apache-2.0", &with));
        assert!(!permits("Apache-2.0 WITH LLVM-exception", &["Apache-2.0"]));
        assert!(!permits("Apache-2.0 WITH Other-exception", &with));
    }

    #[test]
    fn or_later_leaves_the_version_named() {
        assert!(permits("Apache-2.0+", &["Apache-2.0"]));
        assert!(!permits("LGPL-2.1-or-later", &["LGPL-2.1"]));
    }

    #[test]
    fn names_are_compared_exactly() {
        assert!(!permits("mit", &["MIT"]));
        assert!(!permits("MIT-0", &["MIT"]));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in [
            "",
            "()",
            "MIT OR",
            "OR MIT",
            "MIT AND OR ISC",
            "(MIT",
            "MIT)",
            "MIT ISC",
            "MIT WITH",
            "MIT WITH (x)",
            "(MIT OR ISC) WITH x",
        ] {
            assert!(Expression::parse(bad).is_err(), "{bad:?}");
        }
    }
}
