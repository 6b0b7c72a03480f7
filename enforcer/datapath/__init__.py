"""The BPF datapath: the only folder that imports bcc."""
