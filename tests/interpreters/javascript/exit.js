process.on("exit", (code) => console.log("leaving with", code));
setTimeout(() => console.log("never"), 1000);
console.log("before");
process.exit(7);
