// Package config is nydusd's configuration files (v1 JSON, v2 JSON and v2
// TOML) as one typed value.
//
//	text (<= 1 MiB)                                  tried in this order
//	  |-- JSON with an integer "version" --> v2 reader --+
//	  |-- TOML ------------------------------> v2 reader --+--> validate --> Config
//	  `-- JSON with "device" ---------------> v1 reader --+     (v2 shape)
//
// A document is decoded to a plain tree first and read key by key from there, so
// that keys are matched exactly, unknown keys are ignored at every level, null
// counts as absent, and a wrong type is refused with the key and its line.
//
// The text comes from a client of the control API or from a file: it is trusted
// for what it asks, not for its form. Parse allocates in proportion to it, and no
// error carries a value of it. Secrets are of type Secret, URLs that may hold
// credentials of type URL: neither prints what it holds in any format.
//
// A Config is not changed after Parse returned it, apart from SetRegistryAuth by
// its owner; it may be read by any number of goroutines.
//
// Source: nydusd's user-visible surface, section 3 (configuration) and 2.9 (blob
// entries).
package config
