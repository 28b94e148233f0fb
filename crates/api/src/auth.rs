//! Who asks: `Authorization: Bearer lsk_...`, checked before anything else of a request is looked at.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use crate::Api;
use crate::keys::{Key, Scope};
use crate::problem::{Code, Problem};

/// The key of a request, with the needed scope.
pub(crate) fn authorize(headers: &HeaderMap, api: &Api, scope: Scope) -> Result<Arc<Key>, Problem> {
    let challenge = |problem: Problem, with: String| match HeaderValue::from_str(&with) {
        Ok(value) => problem.with_header(header::WWW_AUTHENTICATE, value),
        Err(_) => problem,
    };
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        let detail = "send an API key as `Authorization: Bearer lsk_...`";
        return Err(challenge(Problem::new(Code::KeyMissing, detail), r#"Bearer realm="lockstep""#.to_owned()));
    };
    let wrong = |detail: String| {
        challenge(Problem::new(Code::KeyWrong, detail), r#"Bearer realm="lockstep", error="invalid_token""#.to_owned())
    };
    let text = given.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, token)) = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(wrong("an API key is sent as `Authorization: Bearer lsk_...`".to_owned()));
    };
    let key = api.keys.verify(token.trim()).map_err(|refused| wrong(refused.to_string()))?;
    if !key.allows(scope) {
        let scope = scope.name();
        let detail = format!("the API key `{}` does not have the scope `{scope}`", key.name);
        let with = format!(r#"Bearer realm="lockstep", error="insufficient_scope", scope="{scope}""#);
        return Err(challenge(Problem::new(Code::ScopeMissing, detail), with));
    }
    Ok(key)
}

macro_rules! callers {
    ($($(#[doc = $doc:literal])+ $name:ident: $scope:ident;)+) => {
        $(
            $(#[doc = $doc])+
            pub(crate) struct $name(
                #[allow(dead_code, reason = "some handlers need only that there is one")]
                pub(crate) Arc<Key>,
            );

            impl FromRequestParts<Api> for $name {
                type Rejection = Problem;

                async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
                    authorize(&parts.headers, api, Scope::$scope).map(Self)
                }
            }
        )+
    };
}

callers! {
    /// Somebody who may read.
    Reader: Read;
    /// Somebody who may write.
    Writer: Write;
    /// Somebody who may release, retry, discard and decide conflicts.
    Operator: Operate;
}

impl Writer {
    /// The way in and the system of this key's writes.
    pub(crate) fn speaks_for(&self) -> Result<(&str, &str), Problem> {
        speaks_for(&self.0)
    }
}

/// The way in and the system of a key's writes.
pub(crate) fn speaks_for(key: &Key) -> Result<(&str, &str), Problem> {
    if key.system.is_empty() {
        let detail = format!("the API key `{}` was made without a system, so it can't write", key.name);
        return Err(Problem::new(Code::SystemMissing, detail));
    }
    Ok((&key.source, &key.system))
}
