"""The second paper: students in the teacher's text space, what labels are called, spectra of text features."""
