//! lockstep-connectors
