//! moebert-core
