# cmake -DOUTPUT=file.cpp -DHEADER=header.hpp -DNAMES=a;b -DFILES=1;2 -P EmbedText.cmake: writes the text of each file
# as a constant of namespace spikefloss, so that the program needs no other file, and its SHA-256 in hex as NAME_sha256.
# A name without a file (NONE) is empty.
set(source "#include \"${HEADER}\"\n\nnamespace spikefloss {\n")
foreach(name file IN ZIP_LISTS NAMES FILES)
  set(text "")
  if(NOT file STREQUAL NONE)
    file(READ "${file}" text)
    # Browsers would look for the source map beside the page.
    string(REGEX REPLACE "/[/*]# sourceMappingURL=[^\n]*" "" text "${text}")
    string(REPLACE "\r" "" text "${text}")  # as browsers do before they compute the hash of a script
  endif()
  string(SHA256 hash "${text}")
  string(APPEND source "const char* const ${name} = R\"~~~~(${text})~~~~\";\n")
  string(APPEND source "const char* const ${name}_sha256 = \"${hash}\";\n")
endforeach()
string(APPEND source "}  // namespace spikefloss\n")
file(WRITE "${OUTPUT}" "${source}")
