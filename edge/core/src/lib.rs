//! edge/core
