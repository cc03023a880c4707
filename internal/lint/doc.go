// Package lint holds the project to its own rules, as ordinary Go tests.
//
//	go list -json ./...  --> import graph   == the table in docs/ARCHITECTURE.md
//	go/parser over *.go  --> unsafe, panic, printing, recover, opens by path,
//	                         comments on exported names, lengths, fuzz seeds
//	docs/*.md            --> links and file names lead somewhere
//
// A rule's exceptions stand in one table beside the rule, each with its reason.
// `make check` runs it in a few seconds.
//
// Trust: none needed, it reads this repository only. Concurrency: tests read one
// parsed tree, made once. Source: docs/ARCHITECTURE.md and CONTRIBUTING.md.
package lint
