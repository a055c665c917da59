//! flash.
