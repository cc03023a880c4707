// Package guestapi is what a host may ask of the guest program: commands and
// answers as lines of JSON over a serial line.
//
//	guest -> {"hello":"6.12.117+deb12-cloud-amd64"}      after every boot
//	host  -> {"cmd":"mount","args":{...}}
//	guest -> {"result":{...}}  or  {"error":"..."}
//
// One command is under way at a time. Lines are at most MaxLine bytes, answers
// name at most MaxLines differences.
//
// Trust: both ends are the tests' own. Concurrency: values only. Source: none
// outside this file.
package guestapi

import (
	"encoding/json"
	"time"
)

// Limits of the line protocol.
const (
	MaxLine  = 1 << 20 // bytes of a line
	MaxLines = 40      // differences an answer names; the count is complete
)

// Directories and files of the guest.
const (
	FilesDir = "/files"        // what the host packed into the initramfs
	MemLimit = "90%"           // size= of the guest's tmpfs
	Driver   = "virtiofs"      // its directory below /sys/bus/virtio/drivers
	Port     = "/dev/ttyS1"    // the line protocol
	Modules  = "/modules/list" // module files, one a line, in loading order
)

// A Request is one line from the host.
type Request struct {
	Cmd  Command         `json:"cmd"`
	Args json.RawMessage `json:"args,omitempty"`
}

// A Reply is one line from the guest. Exactly one field is set.
type Reply struct {
	Hello  string          `json:"hello,omitempty"` // kernel release, once after boot
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// A Command is what a Request asks for.
type Command string

// The commands, with the types of their arguments and results.
const (
	Mount     Command = "mount"     // MountArgs -> nothing
	Unmount   Command = "unmount"   // PathArgs -> nothing
	Compare   Command = "compare"   // CompareArgs -> CompareResult
	ReadAt    Command = "readat"    // ReadAtArgs -> ReadAtResult
	Hold      Command = "hold"      // PathArgs -> nothing: opens a file and keeps it open
	LetGo     Command = "letgo"     // nothing -> nothing: closes what Hold has opened
	Mmap      Command = "mmap"      // PathArgs -> MmapResult
	Run       Command = "run"       // RunArgs -> RunResult
	DropCache Command = "dropcache" // nothing -> nothing
	Rebind    Command = "rebind"    // nothing -> nothing: unbinds the driver and binds it again
	Info      Command = "info"      // nothing -> InfoResult
	LoadStart Command = "loadstart" // LoadArgs -> nothing: readers in the background
	LoadWait  Command = "loadwait"  // LoadWaitArgs -> nothing
	LoadStop  Command = "loadstop"  // nothing -> LoadResult
	FsxStart  Command = "fsxstart"  // FsxArgs -> nothing: random operations in the background
	FsxStop   Command = "fsxstop"   // nothing -> FsxResult
	Bench     Command = "bench"     // BenchArgs -> BenchResult
	Write     Command = "write"     // WriteArgs -> nothing
	Mkdir     Command = "mkdir"     // PathArgs -> nothing: with its parents
	List      Command = "list"      // PathArgs -> ListResult
	IDs       Command = "ids"       // PathArgs -> IDsResult
	Reboot    Command = "reboot"    // nothing -> no answer, a hello follows
	PowerOff  Command = "poweroff"  // nothing -> no answer
)

// PathArgs name one file or directory.
type PathArgs struct {
	Path string `json:"path"`
}

// MountArgs are the arguments of mount(2). Path is made if it is missing.
type MountArgs struct {
	Source string `json:"source"`
	Path   string `json:"path"`
	Type   string `json:"type"`
	Flags  uint   `json:"flags,omitempty"`
	Data   string `json:"data,omitempty"`
}

// CompareArgs ask for a comparison of the tree at Path with the manifest in the
// file Manifest.
type CompareArgs struct {
	Path      string   `json:"path"`
	Manifest  string   `json:"manifest"`
	ReadHoles bool     `json:"readholes,omitempty"`
	Skip      []string `json:"skip,omitempty"` // subtrees left out
}

// CompareResult says how many entries were compared and what differs.
type CompareResult struct {
	Entries     int           `json:"entries"`
	Bytes       int64         `json:"bytes"` // apparent size of the regular files
	Differences int           `json:"differences"`
	Lines       []string      `json:"lines,omitempty"`
	Took        time.Duration `json:"took"`
}

// ReadAtArgs ask for Length bytes at each of Offsets of one file; Held reads from what
// Hold has opened by that path.
type ReadAtArgs struct {
	Path    string  `json:"path"`
	Held    bool    `json:"held,omitempty"`
	Offsets []int64 `json:"offsets"`
	Length  int     `json:"length"`
}

// ReadAtResult has, for each offset, the hex SHA-256 of the bytes there; fewer
// than Length at the end of the file.
type ReadAtResult struct {
	Digests []string `json:"digests"`
}

// MmapResult has the hex SHA-256 of a whole file, read through a mapping.
type MmapResult struct {
	Digest string `json:"digest"`
	Bytes  int64  `json:"bytes"`
}

// RunArgs describe a program to run to its end.
type RunArgs struct {
	Root    string        `json:"root,omitempty"` // chroot first
	Argv    []string      `json:"argv"`
	Env     []string      `json:"env,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // 0 means a minute
}

// RunResult is what became of a program. Output holds at most 64 KiB of stdout and
// stderr together.
type RunResult struct {
	Code   int           `json:"code"`
	Output string        `json:"output"`
	Took   time.Duration `json:"took"`
}

// InfoResult describes the guest.
type InfoResult struct {
	Release  string        `json:"release"`
	CPUs     int           `json:"cpus"`
	MemBytes uint64        `json:"membytes"`
	Uptime   time.Duration `json:"uptime"`
	// Queues has the cpu_list of each request queue in sysfs; nil before Linux 6.9.
	Queues []string `json:"queues,omitempty"`
	// Interrupts counts, for each virtio-fs interrupt line, what came so far.
	Interrupts map[string]int64 `json:"interrupts,omitempty"`
}

// LoadArgs start Readers goroutines that walk and read the tree at Path over and
// over, past the page cache, and compare each file with the manifest. Mapped readers
// read through mappings, whose pages they drop and fault in once more.
type LoadArgs struct {
	Path     string `json:"path"`
	Manifest string `json:"manifest"`
	Readers  int    `json:"readers"`
	Mapped   bool   `json:"mapped,omitempty"`
}

// LoadWaitArgs ask to wait until the readers have read Files more files.
type LoadWaitArgs struct {
	Files int64 `json:"files"`
}

// LoadResult is what the readers did until they were stopped.
type LoadResult struct {
	Files  int64    `json:"files"`
	Bytes  int64    `json:"bytes"`
	Errors []string `json:"errors,omitempty"` // at most MaxLines
}

// FsxArgs start Files goroutines, each of which does random operations on a file of its
// own in the directory at Path and compares it with what it should be. Beside them a file
// without a name stays open.
type FsxArgs struct {
	Path  string `json:"path"`
	Files int    `json:"files"`
}

// FsxResult is what they did until they were stopped.
type FsxResult struct {
	Ops    int64    `json:"ops"`
	Errors []string `json:"errors,omitempty"` // at most one for each, and for the open file
}

// BenchArgs choose the tree and the one large file that a benchmark uses.
type BenchArgs struct {
	Path string `json:"path"`
	File string `json:"file"`
}

// BenchResult has one figure per kind of work, in the order in which it was done.
type BenchResult struct {
	Figures []Figure `json:"figures"`
}

// A Figure is the time that Ops operations on Bytes bytes took.
type Figure struct {
	Name  string        `json:"name"`
	Ops   int64         `json:"ops"`
	Bytes int64         `json:"bytes,omitempty"`
	Took  time.Duration `json:"took"`
}

// WriteArgs ask for a file of the given content.
type WriteArgs struct {
	Path string `json:"path"`
	Data string `json:"data"`
}

// IDsResult says whether device and inode numbers tell the files of a tree apart.
type IDsResult struct {
	Files int      `json:"files"`
	Lines []string `json:"lines,omitempty"` // of unlike files with the same numbers, at most MaxLines
}

// ListResult has the names in a directory, sorted.
type ListResult struct {
	Names []string `json:"names"`
}
