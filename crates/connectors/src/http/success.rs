//! What counts as success.

use std::collections::BTreeMap;

use http::StatusCode;
use lockstep_core::delivery::AttemptResult;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::webhook::said;

/// What counts as success: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Success {
    /// The statuses that are success, for example `[200, 204, 404]` for a deletion; any 2xx without it.
    pub statuses: Vec<u16>,
    /// What must stand in the JSON of the answer, by JSON Pointers: `{ "/status" = "ok" }`.
    pub answer: BTreeMap<String, Value>,
    /// Where in the JSON of an answer failures stand, as JSON Pointers: an answer that has something there, an empty list
    /// or object apart, has taken nothing.
    pub errors_at: Vec<String>,
}

impl Success {
    /// The field that is wrong, with what would be right.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        if let Some(status) = self.statuses.iter().find(|status| !(200..600).contains(*status)) {
            return Err(("statuses".to_owned(), format!("must have statuses from 200 to 599, not {status}")));
        }
        let pointers =
            self.answer.keys().map(|at| ("answer", at)).chain(self.errors_at.iter().map(|at| ("errors_at", at)));
        for (field, pointer) in pointers {
            if !pointer.starts_with('/') {
                let problem = format!("must have JSON Pointers, which begin with a `/`, not `{pointer}`");
                return Err((field.to_owned(), problem));
            }
        }
        Ok(())
    }

    /// Whether the body of an answer is looked at.
    pub(super) fn reads(&self) -> bool {
        !self.answer.is_empty() || !self.errors_at.is_empty()
    }

    /// The class of an answer, `class` being that of its status, and what is wrong with one that looks like success.
    pub(super) fn judge(
        &self,
        status: StatusCode,
        body: &[u8],
        class: AttemptResult,
    ) -> (AttemptResult, Option<String>) {
        let is_listed = self.statuses.contains(&status.as_u16());
        if !is_listed && class != AttemptResult::Delivered {
            return (class, None);
        }
        if !is_listed && !self.statuses.is_empty() {
            let problem = format!("`success.statuses` does not have {}", status.as_u16());
            return (AttemptResult::Rejected, Some(problem));
        }
        if !self.errors_at.is_empty() {
            let result = said(body, &self.errors_at);
            if result != AttemptResult::Delivered {
                return (result, Some("`success.errors_at` finds errors in it".to_owned()));
            }
        }
        if self.answer.is_empty() {
            return (AttemptResult::Delivered, None);
        }
        let Ok(answer) = serde_json::from_slice::<Value>(body) else {
            return (AttemptResult::Rejected, Some("`success.answer` wants JSON, and it is none".to_owned()));
        };
        match self.answer.iter().find(|(at, expected)| answer.pointer(at) != Some(expected)) {
            None => (AttemptResult::Delivered, None),
            Some((at, expected)) => {
                let found = answer.pointer(at).map_or_else(|| "nothing".to_owned(), ToString::to_string);
                let found: String = found.chars().take(100).collect();
                (
                    AttemptResult::Rejected,
                    Some(format!("`success.answer` wants {expected} at {at}, and there is {found}")),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_success_can_be_said() {
        let check = |success: Value, status: u16, body: &str, expected: AttemptResult| {
            let success: Success = serde_json::from_value(success).unwrap();
            assert_eq!(success.check(), Ok(()));
            let class = if status < 300 { AttemptResult::Delivered } else { AttemptResult::Rejected };
            let (result, why) = success.judge(StatusCode::from_u16(status).unwrap(), body.as_bytes(), class);
            assert_eq!(result, expected, "{success:?} {status} {body}: {why:?}");
        };
        let (good, bad) = (AttemptResult::Delivered, AttemptResult::Rejected);
        check(json!({}), 202, "", good);
        check(json!({}), 404, "", bad);
        let deletion = json!({"statuses": [204, 404]});
        check(deletion.clone(), 204, "", good);
        check(deletion.clone(), 404, "", good);
        check(deletion, 200, "", bad);
        let said = json!({"answer": {"/status": "ok", "/data/count": 1}});
        check(said.clone(), 200, r#"{"status":"ok","data":{"count":1}}"#, good);
        check(said.clone(), 200, r#"{"status":"ok","data":{"count":"1"}}"#, bad);
        check(said.clone(), 200, r#"{"status":"ok"}"#, bad);
        check(said.clone(), 200, "<html>", bad);
        check(said, 500, r#"{"status":"ok","data":{"count":1}}"#, bad);
        check(json!({"errors_at": ["/errors"]}), 200, r#"{"errors":[{}]}"#, bad);
        check(json!({"errors_at": ["/errors"]}), 200, r#"{"errors":[]}"#, good);
        for wrong in [json!({"statuses": [99]}), json!({"answer": {"status": 1}}), json!({"errors_at": ["a"]})] {
            assert!(serde_json::from_value::<Success>(wrong.clone()).unwrap().check().is_err(), "{wrong}");
        }
    }
}
