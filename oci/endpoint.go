package oci

import "path/filepath"

// An Endpoint is how a program of its own gets at the blobs of a repository.
type Endpoint struct {
	Scheme     string // http or https, as the registry answered
	Host, Repo string
	Credential Credential
	CAFiles    []string // absolute paths of certificates to trust
	ClientCert bool     // the registry is to be shown a certificate
	SkipVerify bool
}

// Endpoint tells where the image's blobs are; false if they are in no registry.
func (im *Image) Endpoint() (Endpoint, bool, error) {
	r, ok := im.repo.store.(*registry)
	if !ok {
		return Endpoint{}, false, nil
	}
	e := Endpoint{Host: r.repo.RegistryStr(), Repo: r.repo.RepositoryStr(), Credential: r.cred, SkipVerify: r.access.Insecure}
	if s := r.scheme.Load(); s != nil {
		e.Scheme = *s
	}
	trusted, shown, err := r.access.certificateFiles(e.Host)
	if err != nil {
		return e, true, err
	}
	for _, path := range trusted {
		if path, err = filepath.Abs(path); err != nil {
			return e, true, err
		}
		e.CAFiles = append(e.CAFiles, path)
	}
	e.ClientCert = len(shown) > 0
	return e, true, nil
}
