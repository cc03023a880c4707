package config

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// Limits of section 3.
const (
	maxBatch   = 0x1000_0000
	maxThreads = 1024
)

// validate checks what the types alone can't. Its errors show no values that may
// be secret.
func (c *Config) validate() error {
	if c.Version != 2 {
		return fmt.Errorf("version: want 2, got %d", c.Version)
	}
	if c.Backend != nil {
		if err := c.Backend.validate(); err != nil {
			return fmt.Errorf("backend: %w", err)
		}
	}
	if err := c.Cache.validate(); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	if err := c.Rafs.validate(); err != nil {
		return fmt.Errorf("rafs: %w", err)
	}
	return nil
}

func (b *Backend) validate() error {
	absent := errors.New(b.Type + " has no section")
	switch b.Type {
	case LocalDiskType:
		if b.LocalDisk == nil {
			return absent
		}
		return need(b.Type, "device_path", b.LocalDisk.DevicePath)
	case LocalFSType:
		if b.LocalFS == nil {
			return absent
		}
		return need(b.Type, "dir or blob_file", b.LocalFS.Dir+b.LocalFS.BlobFile)
	case OSSType:
		if b.OSS == nil {
			return absent
		}
		return need(b.Type, "endpoint", b.OSS.Endpoint, "bucket_name", b.OSS.BucketName)
	case S3Type:
		if b.S3 == nil {
			return absent
		}
		if s := b.S3.AddressingStyle; s != PathStyle && s != VirtualStyle {
			return fmt.Errorf("s3: addressing_style: want %s or %s, got %q", PathStyle, VirtualStyle, s)
		}
		return need(b.Type, "region", b.S3.Region, "bucket_name", b.S3.BucketName)
	case RegistryType:
		if b.Registry == nil {
			return absent
		}
		if err := checkAuth(b.Registry.Auth.Reveal()); err != nil {
			return fmt.Errorf("registry: %w", err)
		}
		return need(b.Type, "host", b.Registry.Host, "repo", b.Registry.Repo)
	case HTTPProxyType:
		if b.HTTPProxy == nil {
			return absent
		}
		return need(b.Type, "addr", b.HTTPProxy.Addr.Reveal())
	}
	return fmt.Errorf("unsupported backend type %q", b.Type)
}

// need takes pairs of key and value and names the first key whose value is empty.
func need(section string, pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return fmt.Errorf("%s: %s is empty", section, pairs[i])
		}
	}
	return nil
}

func (c *Cache) validate() error {
	switch c.Type {
	case "", "dummycache":
	case "blobcache", "filecache":
		if c.FileCache == nil {
			return errors.New(c.Type + " has no section")
		}
		if err := c.FileCache.validate(); err != nil {
			return err
		}
	case "fscache":
		if c.FSCache == nil {
			return errors.New("fscache has no section")
		}
		if err := need("fscache", "work_dir", c.FSCache.WorkDir); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unsupported cache type %q", c.Type)
	}
	return c.Prefetch.validate()
}

func (f *FileCache) validate() error {
	if err := need("filecache", "work_dir", f.WorkDir); err != nil {
		return err
	}
	if _, err := hex.DecodeString(f.EncryptionKey.Reveal()); err != nil {
		return errors.New("filecache: encryption_key is not hexadecimal")
	}
	if f.EnableEncryption && !f.EnableConvergentEncryption && !f.EncryptionKey.IsSet() {
		return errors.New("filecache: encryption_key is empty")
	}
	return nil
}

func (r *Rafs) validate() error {
	if r.Mode != "direct" && r.Mode != "cached" {
		return fmt.Errorf("mode: want direct or cached, got %q", r.Mode)
	}
	if r.BatchSize > maxBatch {
		return fmt.Errorf("batch_size: above %d", maxBatch)
	}
	return r.Prefetch.validate()
}

func (p *Prefetch) validate() error {
	if !p.Enable {
		return nil
	}
	if p.Threads == 0 || p.Threads > maxThreads {
		return fmt.Errorf("prefetch: threads: want 1 to %d", maxThreads)
	}
	if p.BatchSize > maxBatch {
		return fmt.Errorf("prefetch: batch_size: above %d", maxBatch)
	}
	return nil
}
