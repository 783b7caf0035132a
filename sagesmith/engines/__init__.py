"""Floor 2: where jobs run. Engines know command lines, not algorithms. One file per engine, named in the settings."""
