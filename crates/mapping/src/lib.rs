//! lockstep-mapping
