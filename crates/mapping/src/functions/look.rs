//! Arguments read where they are, without a copy of them.

use vrl::compiler::expression::Expr;
use vrl::compiler::prelude::*;

/// Gives `read` the argument's value: in place where it is a path or a variable, or else computed.
pub(super) fn at<R>(
    argument: &Expr,
    ctx: &mut Context,
    read: impl FnOnce(&Value) -> Result<R, String>,
) -> Result<R, ExpressionError> {
    let found = match argument {
        Expr::Query(query) => match (query.external_path(), query.variable_ident()) {
            (Some(path), _) => Some(ctx.target().target_get(path).ok().flatten()),
            (None, Some(variable)) => Some(ctx.state().variable(variable).and_then(|value| value.get(query.path()))),
            (None, None) => None,
        },
        Expr::Variable(variable) => Some(ctx.state().variable(variable.ident())),
        _ => None,
    };
    match found {
        Some(value) => Ok(read(value.unwrap_or(&Value::Null))?),
        None => Ok(read(&argument.resolve(ctx)?)?),
    }
}
