package virtqueue

func (f *Inflight) takePacked(c *Chain, slot uint16, slots uint32, ring []byte) {}
func (f *Inflight) beforePublishPacked(batch []usedElem)                        {}
func (f *Inflight) afterPublishPacked(batch []usedElem, used uint16)            {}
func (q *Queue) recoverPacked(v *view) error                                    { return nil }
func (q *Queue) walkInflight(c *Chain, head uint16) error                       { return nil }
