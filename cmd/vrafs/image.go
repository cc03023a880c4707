package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"vrafs/backend"
	"vrafs/backend/localfs"
	"vrafs/build"
	"vrafs/config"
	"vrafs/internal/backends"
	"vrafs/internal/bootload"
	"vrafs/internal/chunkread"
	"vrafs/internal/cli"
	"vrafs/internal/opener"
	"vrafs/oci"
	"vrafs/rafs"
)

// needDigests tells what to do about a blob that can't be verified.
func needDigests(err error) error {
	if errors.Is(err, chunkread.ErrUnverified) {
		err = cli.Hint(err, "if you trust where the blob comes from, name it with --allow-unverified")
	}
	return err
}

// A place says where an image and its blobs are; commands fill it from their
// options.
type place struct {
	bootstrap  string            // -B
	positional string            // the form without -B
	dir        string            // -D: blobs by id
	blob       string            // -b: one file for every blob
	config     string            // -C
	entry      *config.BlobEntry // what config holds, if it names the bootstrap too
	kind       string            // --backend-type
	inline     string            // --backend-config
	inlineFile string            // --backend-config-file

	unverified []string // --allow-unverified
}

func (p *place) bootstrapOption() *cli.Option {
	return &cli.Option{Long: "bootstrap", Short: 'B', Value: "bootstrap",
		Help: "File of the bootstrap, or data blob with the bootstrap inside", Set: cli.Str(&p.bootstrap)}
}

func (p *place) bootstrapArg() *cli.Arg {
	return &cli.Arg{Name: "BOOTSTRAP", Help: "File of the bootstrap, or data blob with the bootstrap inside",
		RequiredUnless: []string{"bootstrap"}, Set: cli.Str(&p.positional)}
}

func (p *place) dirOption() *cli.Option {
	return &cli.Option{Long: "blob-dir", Short: 'D', Value: "blob-dir", Help: "Directory of the data blobs, each named by its id", Set: cli.Str(&p.dir)}
}

func (p *place) blobOption() *cli.Option {
	return &cli.Option{Long: "blob", Short: 'b', Value: "blob", Help: "File of the only data blob", Set: cli.Str(&p.blob)}
}

func (p *place) configOption() *cli.Option {
	return &cli.Option{Long: "config", Short: 'C', Value: "config", Help: "Configuration file (JSON or TOML) whose back end has the data blobs", Set: cli.Str(&p.config)}
}

func (p *place) backendOptions() []*cli.Option {
	return []*cli.Option{
		{Long: "backend-type", Value: "backend-type", Help: "Type of the storage back end", Requires: nil,
			Choices: []string{"localdisk", "localfs", "oss", "s3", "registry", "http-proxy"}, Set: cli.Str(&p.kind)},
		{Long: "backend-config", Value: "backend-config", Help: "Configuration of the back end as JSON", Requires: []string{"backend-type"},
			Conflicts: []string{"backend-config-file"}, Set: cli.Str(&p.inline)},
		{Long: "backend-config-file", Value: "backend-config-file", Help: "JSON file with the configuration of the back end",
			Requires: []string{"backend-type"}, Set: cli.Str(&p.inlineFile)},
	}
}

func (p *place) unverifiedOption() *cli.Option {
	return &cli.Option{Long: "allow-unverified", Value: "blob-id", Help: "Read this blob although the image has no digests for it, as for tarfs", Many: true,
		Set: cli.Strings(&p.unverified)}
}

// path is the bootstrap's file. The positional form wins.
func (p *place) path() string {
	if p.positional != "" {
		return p.positional
	}
	return p.bootstrap
}

// An image is an opened bootstrap with the place of its blobs.
type image struct {
	*bootload.Bootstrap
	path  string
	blobs backend.Opener // nil if no place was given
}

// open opens the bootstrap and the back end.
func (p *place) open() (*image, error) {
	im, err := openBootstrap(p.path())
	if err != nil {
		return nil, err
	}
	if im.blobs, err = p.backend(); err != nil {
		im.Close()
		return nil, err
	}
	if im.Inlined {
		self, err := localfs.New(opener.Local(), localfs.Options{File: im.path})
		if err != nil {
			im.Close()
			return nil, err
		}
		im.blobs = &withSelf{id: blobName(im.Name), self: self, rest: im.blobs}
	}
	return im, nil
}

func openBootstrap(path string) (*image, error) {
	b, err := bootload.Open(opener.Local(), path)
	if err != nil {
		return nil, noImage(err)
	}
	return &image{Bootstrap: b, path: path}, nil
}

// noImage tells what to do about a bootstrap that can't be opened.
func noImage(err error) error {
	err = fmt.Errorf("open image: %w", err)
	switch {
	case errors.Is(err, bootload.ErrNotImage), errors.Is(err, opener.ErrNotRegular):
		return cli.Hint(err, "give the file of a bootstrap, or a data blob made with --blob-inline-meta")
	case errors.Is(err, fs.ErrNotExist):
		return cli.Hint(err, "check the path of the bootstrap")
	}
	return err
}

// input is the image as the operations of package build take it.
func (im *image) input() build.Image {
	return build.Image{Name: im.Name, Data: im.Bytes(), Blobs: im.blobs}
}

// needBlobs fails if the image has data but nothing says where.
func (im *image) needBlobs() error {
	if im.blobs != nil || len(im.Image.Blobs()) == 0 {
		return nil
	}
	return cli.Hint(fmt.Errorf("%s has %d data blobs and no place to read them from", im.path, len(im.Image.Blobs())),
		"name the directory of the blobs with -D, or a configuration file with -C")
}

// backend opens the back end that the options describe; nil if there is none.
func (p *place) backend() (backend.Opener, error) {
	switch {
	case p.kind != "":
		return p.describedBackend()
	case p.entry != nil:
		return openBackend(p.entry.Config.Backend)
	case p.config != "":
		c, err := readConfig(p.config)
		if err != nil {
			return nil, err
		}
		return openBackend(c.Backend)
	case p.blob != "":
		return localfs.New(opener.Local(), localfs.Options{File: p.blob})
	case p.dir != "":
		return localfs.New(opener.Local(), localfs.Options{Dir: p.dir})
	}
	return nil, nil
}

// describedBackend reads --backend-type with its JSON section.
func (p *place) describedBackend() (backend.Opener, error) {
	section := []byte(p.inline)
	if p.inlineFile != "" {
		var err error
		if section, err = readFile(p.inlineFile, config.MaxSize); err != nil {
			return nil, err
		}
	}
	if len(section) == 0 {
		return nil, &cli.UsageError{Text: "--backend-type needs '--backend-config <backend-config>' or '--backend-config-file <backend-config-file>'"}
	}
	if !json.Valid(section) {
		return nil, errors.New("back-end configuration: not valid JSON")
	}
	text, err := json.Marshal(map[string]any{"version": 2, "backend": map[string]any{"type": p.kind, p.kind: json.RawMessage(section)}})
	if err != nil {
		return nil, err
	}
	c, err := config.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("back-end configuration: %w", err)
	}
	return openBackend(c.Backend)
}

// fromEntry takes the bootstrap from the configuration, which then is an entry as
// the singleton daemon binds (PUT /api/v2/blobs).
func (p *place) fromEntry() error {
	text, err := readFile(p.config, config.MaxSize)
	if err != nil {
		return err
	}
	p.entry, err = config.ParseBlobEntry(text)
	if err == nil && p.entry.MetadataPath == "" {
		err = errors.New("no metadata_path")
	}
	if err != nil {
		return cli.Hint(fmt.Errorf("configuration %s: %w", p.config, err), "name the bootstrap with -B, or give an entry with a metadata_path")
	}
	p.bootstrap = p.entry.MetadataPath
	return nil
}

func readConfig(path string) (*config.Config, error) {
	text, err := readFile(path, config.MaxSize)
	if err != nil {
		return nil, err
	}
	c, err := config.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// openBackend opens a configured back end. What releases it is dropped: a command uses
// its back end to the end, and then its process takes connections and goroutines along.
func openBackend(b *config.Backend) (backend.Opener, error) {
	header, err := backends.HeaderOf(os.Environ())
	if err != nil {
		return nil, err
	}
	blobs, _, err := backends.Open(b, backends.Options{Opener: opener.Local(), Header: header, Helper: loginOf})
	return blobs, err
}

// loginOf finds what `docker login` and its like have left for a repository, when a registry
// refuses what the configuration says. A command is shorter than a day.
func loginOf(host, repo, refused string) (auth string, end time.Time, err error) {
	if host == "registry-1.docker.io" {
		host = "index.docker.io" // the name that logins are kept under
	}
	c, err := (&oci.Access{}).Credential(oci.Ref{Registry: host, Repo: repo})
	if err != nil {
		return "", end, err
	}
	if c.IdentityToken != "" { // docker login keeps it with a name and an empty password
		return "", end, errors.New("the login for it is an identity token, which only commands that take references can use")
	}
	auth = base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
	if c.Username == "" || auth == refused {
		return "", end, errors.New("no login for it in the files of docker and podman")
	}
	return auth, time.Now().Add(24 * time.Hour), nil
}

// withSelf finds the blob that a bootstrap was taken from in the same file.
type withSelf struct {
	id         string
	self, rest backend.Opener
}

// Open returns the blob named id.
func (w *withSelf) Open(ctx context.Context, id string) (backend.Blob, error) {
	if id == w.id {
		return w.self.Open(ctx, id)
	}
	if w.rest == nil {
		return nil, fmt.Errorf("blob %s: %w: name its directory with -D", id, backend.ErrNotFound)
	}
	return w.rest.Open(ctx, id)
}

// blobName is the id of the blob in a file of that name: all extensions go.
func blobName(name string) string {
	for ext := filepath.Ext(name); ext != "" && ext != name; ext = filepath.Ext(name) {
		name = name[:len(name)-len(ext)]
	}
	return name
}

// readFile reads a small text file.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return text, nil
}

// versionName is the number of the format as JSON results have it.
func versionName(v rafs.Version) string {
	if v == rafs.V5 {
		return "5"
	}
	return "6"
}
