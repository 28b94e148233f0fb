//! The licences of everything that the workspace is built from.

use super::spdx::Expression;
use crate::metadata::Metadata;

/// Licences under which a dependency may be part of an Apache-2.0 program that is given away as a
/// binary. MPL-2.0 is among them because its copyleft ends at the file.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Lists the packages, of all platforms and kinds of dependency, whose licence is not allowed.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let named = format!("{} {}", package.name, package.version);
        let Some(licence) = &package.licence else {
            problems.push(format!("{named}: its manifest names no licence"));
            continue;
        };
        match Expression::parse(licence) {
            Ok(expression) if expression.permits(ALLOWED) => {}
            Ok(expression) => problems.push(format!(
                "{named}: `{expression}` is not covered by ALLOWED in xtask/src/tidy/licences.rs; use another crate"
            )),
            Err(error) => problems.push(format!("{named}: {error}")),
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    #[test]
    fn each_package_is_judged_by_its_own_licence() {
        let package = |name: &str, licence: Option<&str>| Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.map(str::to_owned),
            manifest: "Cargo.toml".into(),
            dependencies: Vec::new(),
            member: false,
        };
        let metadata = Metadata {
            packages: vec![
                package("good", Some("(MIT OR GPL-2.0-only) AND Unicode-3.0")),
                package("strict", Some("AGPL-3.0-only")),
                package("silent", None),
                package("garbled", Some("MIT OR")),
            ],
            target_folder: "target".into(),
        };
        let named: Vec<String> =
            check(&metadata).iter().filter_map(|problem| problem.split(':').next().map(str::to_owned)).collect();
        assert_eq!(named, ["strict 1.0.0", "silent 1.0.0", "garbled 1.0.0"]);
    }
}
