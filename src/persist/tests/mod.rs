//! Crashes, damage and their absence.
