/* darkroom: the command line; its commands are in lib/client. */
#include "lib/client/client.h"

int main(int argc, char **argv) {
    return client_main(argc, argv);
}
