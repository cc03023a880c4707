package testtree

// Options choose a tree. The zero value is the small tree for quick tests.
type Options struct {
	Seed uint64
	// Entries is about how many names the tree has; the fixed part is some 500.
	Entries int
	// BigDir is the number of names in the one big directory; 0 means 300.
	BigDir int
	// DataBytes bounds the bytes of the random files; 0 means 8 MiB.
	DataBytes int64
	// HugeSparse adds a file of more than 4 GiB apparent size.
	HugeSparse bool
	// Unprivileged leaves out what only root can make: devices, foreign owners,
	// trusted and security xattrs.
	Unprivileged bool
	// TarSafe leaves out what Go's and GNU's tar can't carry: sockets and empty
	// xattr values.
	TarSafe bool
	// NoXattrs leaves out every xattr, for file systems without them.
	NoXattrs bool
}

// Large is the tree that the project's promises are about: 22,000 names, one
// directory with 10,000, a sparse file above 4 GiB, some 64 MiB of data.
func Large(seed uint64) Options {
	return Options{Seed: seed, Entries: 22000, BigDir: 10000, DataBytes: 64 << 20, HugeSparse: true}
}

// Small is a tree with every kind of thing in it, but few of each: below 2,000
// names and 8 MiB, made in a fraction of a second.
func Small(seed uint64) Options {
	return Options{Seed: seed, Entries: 1500, BigDir: 300, DataBytes: 8 << 20}
}

func (o *Options) setDefaults() {
	if o.Entries == 0 {
		o.Entries = 1500
	}
	if o.BigDir == 0 {
		o.BigDir = 300
	}
	if o.DataBytes == 0 {
		o.DataBytes = 8 << 20
	}
}
