package blobcache

func child(what string) int { return 1 }
