package config

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// MaxSize bounds a configuration text, in bytes.
const MaxSize = 1 << 20

var (
	// ErrTooBig is returned for a text above MaxSize.
	ErrTooBig = errors.New("configuration file size is too big")
	// ErrParse is the class of texts that fit none of the three formats.
	ErrParse = errors.New("failed to parse configuration information")
	// ErrInvalid is the class of well-formed texts whose values can't be used.
	ErrInvalid = errors.New("invalid configuration")
)

// A Config is a whole configuration in the shape of version 2. Encoded as JSON it
// is a version 2 document without secrets.
type Config struct {
	Version          int               `json:"version"` // always 2
	ID               string            `json:"id"`      // names the blob cache's metrics
	Backend          *Backend          `json:"backend"` // nil if the text has none
	ExternalBackends []ExternalBackend `json:"external_backends"`
	Cache            Cache             `json:"cache"`
	Rafs             Rafs              `json:"rafs"`
	Overlay          *Overlay          `json:"overlay"` // nil: read-only
}

// Backend types.
const (
	LocalFSType   = "localfs"
	LocalDiskType = "localdisk"
	OSSType       = "oss"
	S3Type        = "s3"
	RegistryType  = "registry"
	HTTPProxyType = "http-proxy"
)

// A Backend says where blobs come from. The section named by Type is not nil.
type Backend struct {
	Type      string     `json:"type"`
	LocalDisk *LocalDisk `json:"localdisk"`
	LocalFS   *LocalFS   `json:"localfs"`
	OSS       *OSS       `json:"oss"`
	S3        *S3        `json:"s3"`
	Registry  *Registry  `json:"registry"`
	HTTPProxy *HTTPProxy `json:"http-proxy"`
}

// Place is where blobs are, in words that show no secret.
func (b *Backend) Place() string {
	switch {
	case b.LocalDisk != nil:
		return b.LocalDisk.DevicePath
	case b.LocalFS != nil:
		return cmp.Or(b.LocalFS.BlobFile, b.LocalFS.Dir)
	case b.OSS != nil:
		return b.OSS.BucketName + "." + b.OSS.Endpoint
	case b.S3 != nil:
		return b.S3.Endpoint + "/" + b.S3.BucketName
	case b.Registry != nil:
		return b.Registry.Host + "/" + b.Registry.Repo
	case b.HTTPProxy != nil:
		return b.HTTPProxy.Addr.String()
	}
	return b.Type
}

// LocalFS is one file for every blob, or directories with a file per blob.
type LocalFS struct {
	BlobFile string   `json:"blob_file"`
	Dir      string   `json:"dir"`
	AltDirs  []string `json:"alt_dirs"`
}

// LocalDisk is a block device or image file, partitioned or one blob as a whole.
type LocalDisk struct {
	DevicePath string `json:"device_path"`
	DisableGPT bool   `json:"disable_gpt"`
}

// HTTP is what all network back ends share. Times are in seconds.
type HTTP struct {
	SkipVerify     bool     `json:"skip_verify"`
	CACertFiles    []string `json:"ca_cert_files"`
	Timeout        uint32   `json:"timeout"`
	ConnectTimeout uint32   `json:"connect_timeout"`
	RetryLimit     uint8    `json:"retry_limit"` // 0: the built-in default
	Proxy          Proxy    `json:"proxy"`
}

// Proxy is Dragonfly or any HTTP proxy; off if URL is empty. Times are in seconds.
type Proxy struct {
	URL                        URL    `json:"url"`
	PingURL                    URL    `json:"ping_url"`
	Fallback                   bool   `json:"fallback"`
	CheckInterval              uint64 `json:"check_interval"`
	CheckPauseElapsed          uint64 `json:"check_pause_elapsed"`
	UseHTTP                    bool   `json:"use_http"`
	DragonflySchedulerEndpoint URL    `json:"dragonfly_scheduler_endpoint"`
	// WindowSize is that of the aligned ranges that go through the proxy, in bytes; 0:
	// ranges are exact. Ours.
	WindowSize uint64 `json:"window_size"`
}

// A Mirror is a server that is asked before the origin. Times are in seconds.
type Mirror struct {
	Host                URL               `json:"host"`     // [scheme://]name[:port]
	PingURL             URL               `json:"ping_url"` // or none
	Headers             map[string]Secret `json:"headers"`
	AuthThrough         bool              `json:"auth_through"` // it has credentials of its own
	HealthCheckInterval uint64            `json:"health_check_interval"`
	FailureLimit        uint8             `json:"failure_limit"` // in a row, then it is left alone
}

// Registry is an OCI distribution server.
type Registry struct {
	HTTP
	Scheme             string   `json:"scheme"` // "http" or "https", nothing else
	Host               string   `json:"host"`
	Repo               string   `json:"repo"`
	Auth               Secret   `json:"auth"` // base64 of user:password
	RegistryToken      Secret   `json:"registry_token"`
	BlobURLScheme      string   `json:"blob_url_scheme"`
	BlobRedirectedHost string   `json:"blob_redirected_host"`
	Mirrors            []Mirror `json:"mirrors,omitempty"`
	// CredentialHelper is the path of a Unix socket. Ours.
	CredentialHelper string `json:"credential_helper"`
}

// OSS is Alibaba Cloud's object store.
type OSS struct {
	HTTP
	Mirrors         []Mirror `json:"mirrors,omitempty"`
	Scheme          string   `json:"scheme"`
	Endpoint        string   `json:"endpoint"`
	BucketName      string   `json:"bucket_name"`
	ObjectPrefix    string   `json:"object_prefix"`
	AccessKeyID     Secret   `json:"access_key_id"`
	AccessKeySecret Secret   `json:"access_key_secret"`
	SecurityToken   Secret   `json:"security_token"` // ours
}

// Addressing styles of S3.
const (
	PathStyle    = "path"    // endpoint/bucket
	VirtualStyle = "virtual" // bucket.endpoint
)

// S3 is an object store that speaks Amazon's protocol.
type S3 struct {
	HTTP
	Scheme          string `json:"scheme"`
	Endpoint        string `json:"endpoint"` // never empty
	Region          string `json:"region"`
	BucketName      string `json:"bucket_name"`
	ObjectPrefix    string `json:"object_prefix"`
	AccessKeyID     Secret `json:"access_key_id"`
	AccessKeySecret Secret `json:"access_key_secret"`
	SecurityToken   Secret `json:"security_token"` // ours
	// AddressingStyle is path or virtual: where the bucket's name stands. Ours.
	AddressingStyle string `json:"addressing_style"`
}

// HTTPProxy is a plain HTTP server of blobs, or one behind a Unix socket.
type HTTPProxy struct {
	HTTP
	Addr URL    `json:"addr"`
	Path string `json:"path"`
}

// ExternalBackend is kept but has no effect today. Its tables may hold secrets and
// never leave the process.
type ExternalBackend struct {
	Type string `json:"type"`
}

// Cache says where chunk data is kept.
type Cache struct {
	Type       string     `json:"type"` // as written; see Kind
	Compressed bool       `json:"compressed"`
	Validate   bool       `json:"validate"`
	Prefetch   Prefetch   `json:"prefetch"`
	FileCache  *FileCache `json:"filecache"`
	FSCache    *FSCache   `json:"fscache"`
	// AllowUnverified lists the ids of blobs that may be served although they have
	// no digests. Ours: nydusd serves such blobs without asking.
	AllowUnverified []string `json:"allow_unverified,omitempty"`
}

// A CacheKind is what a cache type means.
type CacheKind uint8

// Cache kinds.
const (
	NoCache     CacheKind = iota // "" or dummycache
	FileCacheOn                  // filecache, also called blobcache
	FSCacheOn                    // fscache
)

// Kind is the meaning of Type.
func (c *Cache) Kind() CacheKind {
	switch c.Type {
	case "blobcache", "filecache":
		return FileCacheOn
	case "fscache":
		return FSCacheOn
	}
	return NoCache
}

// FileCache is a cache in ordinary files.
type FileCache struct {
	WorkDir                    string `json:"work_dir"`
	DisableIndexedMap          bool   `json:"disable_indexed_map"`
	EnableEncryption           bool   `json:"enable_encryption"`
	EnableConvergentEncryption bool   `json:"enable_convergent_encryption"`
	EncryptionKey              Secret `json:"encryption_key"` // hexadecimal
	// SizeLimit bounds what the directory takes on the disk, in bytes; 0: no bound. Ours.
	SizeLimit uint64 `json:"size_limit,omitempty"`
}

// FSCache is a cache in the kernel's cachefiles.
type FSCache struct {
	WorkDir string `json:"work_dir"`
}

// Rafs is how an image is served.
type Rafs struct {
	Mode            string   `json:"mode"`       // "direct" or "cached"
	BatchSize       uint64   `json:"batch_size"` // user read amplification in bytes, 0 = off
	Validate        bool     `json:"validate"`
	EnableXattr     bool     `json:"enable_xattr"`
	IOStatsFiles    bool     `json:"iostats_files"`
	AccessPattern   bool     `json:"access_pattern"`
	LatestReadFiles bool     `json:"latest_read_files"`
	Prefetch        Prefetch `json:"prefetch"`
}

// Prefetch is background reading ahead of demand.
type Prefetch struct {
	Enable         bool   `json:"enable"`
	Threads        uint64 `json:"threads"`
	BatchSize      uint64 `json:"batch_size"`      // largest request in bytes
	BandwidthLimit uint64 `json:"bandwidth_limit"` // bytes per second, 0 = unlimited
	PrefetchAll    bool   `json:"prefetch_all"`
	StreamPrefetch bool   `json:"stream_prefetch"`
}

// Overlay is a writable layer over the image. Both directories must be named by
// the time it is mounted.
type Overlay struct {
	UpperDir string `json:"upper_dir"`
	WorkDir  string `json:"work_dir"`
}

// LocalDir is the configuration that --localfs-dir stands for: blobs and cache in
// dir, mode direct, no digest check of metadata.
func LocalDir(dir string) *Config {
	c := defaults()
	c.Backend = &Backend{Type: LocalFSType, LocalFS: &LocalFS{Dir: dir, AltDirs: []string{}}}
	c.Cache.Type = "blobcache"
	c.Cache.FileCache = &FileCache{WorkDir: dir}
	return c
}

// Equal reports whether two configurations agree in every field, secrets
// included: such mounts share one cache manager.
func (c *Config) Equal(d *Config) bool { return reflect.DeepEqual(c, d) }

// SetRegistryAuth replaces the registry credentials (base64 of user:password).
// It has no effect on other back ends.
func (c *Config) SetRegistryAuth(auth string) error {
	if err := checkAuth(auth); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if c.Backend != nil && c.Backend.Registry != nil {
		c.Backend.Registry.Auth = NewSecret(auth)
	}
	return nil
}

// checkAuth tells whether auth is empty or base64 of a text with a colon. Its
// errors don't show auth.
func checkAuth(auth string) error {
	if auth == "" {
		return nil
	}
	p, err := base64.StdEncoding.DecodeString(auth)
	if err != nil {
		return errors.New("auth is not base64")
	}
	if !strings.Contains(string(p), ":") {
		return errors.New("auth is not base64 of user:password")
	}
	return nil
}
