//! `lockstep webhook`: making and checking signatures, without a hub.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use http::{HeaderMap, HeaderName, HeaderValue};
use lockstep_connect::signature::{Scheme, Secret, Verifier};
use serde_json::{Map, Value, json};

use crate::config::SecretRef;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style};

/// Make and check the signatures of webhooks, without a hub.
#[derive(Debug, Args)]
pub struct WebhookArgs {
    #[command(subcommand)]
    command: WebhookCommand,
}

#[derive(Debug, Subcommand)]
enum WebhookCommand {
    /// Say whether a request is authentic, and if not, why. Exit code 1 where it is not.
    #[command(
        after_help = "Example:\n  lockstep webhook verify --scheme shopify --secret env:SHOP_SECRET \\\n      --header 'X-Shopify-Hmac-SHA256=1pnXk1…=' order.json"
    )]
    Verify(VerifyArgs),
    /// Print the headers that make a request authentic, one a line, as `curl --header @FILE` reads them.
    #[command(
        after_help = "Example:\n  lockstep webhook sign --scheme shopify --secret env:SHOP_SECRET order.json > headers\n  curl --header @headers --data-binary @order.json http://127.0.0.1:7070/v1/webhooks/shop"
    )]
    Sign(SignArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    signature: SignatureArgs,
    /// A header of the request; can be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The file with the request's body; `-` reads standard input.
    #[arg(value_name = "BODY", default_value = "-")]
    body: PathBuf,
}

#[derive(Debug, Args)]
struct SignArgs {
    #[command(flatten)]
    signature: SignatureArgs,
    /// The delivery's id, where the scheme signs one.
    #[arg(long, default_value = "msg_1")]
    id: String,
    /// The file with the request's body; `-` reads standard input.
    #[arg(value_name = "BODY", default_value = "-")]
    body: PathBuf,
}

#[derive(Debug, Args)]
struct SignatureArgs {
    /// The signature scheme.
    #[arg(long, value_enum)]
    scheme: SchemeName,
    /// A secret: `env:NAME` or `file:PATH`; several while one is being replaced.
    #[arg(long = "secret", value_name = "REFERENCE", required = true, value_parser = parse_secret)]
    secrets: Vec<SecretRef>,
    /// The time to sign or verify for, in seconds since 1970; now, where it is not given.
    #[arg(long, value_name = "SECONDS")]
    at: Option<i64>,
    /// hmac, timestamped: the header with the signature.
    #[arg(long, value_name = "NAME")]
    hmac_header: Option<String>,
    /// hmac, timestamped: sha256 or sha512.
    #[arg(long, value_name = "NAME")]
    hmac_algorithm: Option<String>,
    /// hmac, timestamped: hex or base64.
    #[arg(long, value_name = "NAME")]
    hmac_encoding: Option<String>,
    /// hmac: the text before the signature in its header, such as `sha256=`.
    #[arg(long, value_name = "TEXT")]
    hmac_prefix: Option<String>,
    /// hmac: the header with the time of signing in seconds since 1970, where there is one.
    #[arg(long, value_name = "NAME")]
    hmac_timestamp_header: Option<String>,
    /// hmac: what is signed, such as `{body}` or `{header:webhook-id}.{body}`.
    #[arg(long, value_name = "TEMPLATE")]
    hmac_signed: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SchemeName {
    Shopify,
    StandardWebhooks,
    Hmac,
    Timestamped,
}

/// Runs the command.
pub fn run(args: &WebhookArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        WebhookCommand::Verify(args) => verify(args, output),
        WebhookCommand::Sign(args) => sign(args, output),
    }
}

fn verify(args: &VerifyArgs, output: &Output) -> Result<Exit, Failure> {
    let verifier = args.signature.verifier()?;
    let body = read_body(&args.body)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &args.headers {
        headers.append(name, value.clone());
    }
    match verifier.verify(&headers, &body, args.signature.now_s()) {
        Ok(()) if output.is_json() => output.json(&json!({ "authentic": true }))?,
        Ok(()) => output.line(&output.styled(Style::Green, "authentic"))?,
        Err(error) => {
            if output.is_json() {
                output.json(&json!({ "authentic": false, "code": error.code(), "detail": error.to_string() }))?;
            } else {
                output.line(&format!("{}: {error} ({})", output.styled(Style::Red, "not authentic"), error.code()))?;
            }
            return Ok(Exit::No);
        }
    }
    Ok(Exit::Done)
}

fn sign(args: &SignArgs, output: &Output) -> Result<Exit, Failure> {
    let verifier = args.signature.verifier()?;
    let body = read_body(&args.body)?;
    let headers = verifier.sign_headers(&args.id, args.signature.now_s(), &body);
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    if output.is_json() {
        let headers: Map<String, Value> =
            headers.iter().map(|(name, value)| (name.to_string(), Value::from(text(value)))).collect();
        output.json(&json!({ "headers": headers }))?;
    } else {
        for (name, value) in &headers {
            output.line(&format!("{name}: {}", text(value)))?;
        }
    }
    Ok(Exit::Done)
}

impl SignatureArgs {
    fn verifier(&self) -> Result<Verifier, Failure> {
        let scheme = self.scheme()?;
        let secrets: Vec<Secret> = self
            .secrets
            .iter()
            .map(|secret| secret.resolve(Path::new(".")).map_err(|error| Failure::usage("secret", error.to_string())))
            .collect::<Result<_, _>>()?;
        Verifier::new(&scheme, secrets).map_err(|error| Failure::usage("scheme", error.to_string()))
    }

    fn scheme(&self) -> Result<Scheme, Failure> {
        let options = [
            ("header", &self.hmac_header),
            ("algorithm", &self.hmac_algorithm),
            ("encoding", &self.hmac_encoding),
            ("prefix", &self.hmac_prefix),
            ("signed", &self.hmac_signed),
            ("timestamp_header", &self.hmac_timestamp_header),
        ];
        let name = self.scheme.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut scheme = json!({ "scheme": name });
        for (option, value) in options {
            let Some(value) = value else { continue };
            if !matches!(self.scheme, SchemeName::Hmac | SchemeName::Timestamped) {
                return Err(Failure::usage(
                    "scheme",
                    format!(
                        "--hmac-{} is for --scheme hmac or timestamped, not for --scheme {name}",
                        option.replace('_', "-")
                    ),
                ));
            }
            scheme[option] = Value::from(value.as_str());
        }
        // The scheme's own type says what it needs, here as in the configuration.
        serde_json::from_value(scheme).map_err(|error| {
            let message = error.to_string().replace("missing field `", "missing option `--hmac-");
            Failure::usage("scheme", format!("--scheme {name}: {message}"))
        })
    }

    fn now_s(&self) -> i64 {
        self.at.unwrap_or_else(crate::time::now_s)
    }
}

/// Takes everything: an error of the command line would print a secret that was typed in place of a reference.
#[expect(clippy::unnecessary_wraps, reason = "what a parser of arguments gives")]
fn parse_secret(text: &str) -> Result<SecretRef, std::convert::Infallible> {
    Ok(SecretRef::new(text))
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    // `Name: value` is how `webhook sign` prints it, `Name=value` how it is typed.
    let at = text.find(['=', ':']).ok_or("a header is written NAME=VALUE")?;
    let (name, value) = (text[..at].trim(), text[at + 1..].trim());
    let name = name.parse().map_err(|_| format!("`{name}` can't be the name of a header"))?;
    let value = value.parse().map_err(|_| format!("the value of `{name}` can't stand in a header"))?;
    Ok((name, value))
}

fn read_body(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut body)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut body))
    };
    read.map_err(|error| Failure::usage("body", format!("the body {} can't be read: {error}", path.display())))?;
    Ok(body)
}
