// Builds dist/ from src/ (and the generated half of src/proto from proto/), installing what is missing first.
import { build } from './lib/build.mjs';

build();
