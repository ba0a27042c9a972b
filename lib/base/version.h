/* version: of this Darkroom; CMakeLists.txt has the same number and a test compares. */
#ifndef DARKROOM_BASE_VERSION_H
#define DARKROOM_BASE_VERSION_H

#define DARKROOM_VERSION "0.1.0"

#endif
